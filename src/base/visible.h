#pragma once
#include <string>
#include <string_view>

namespace slipway {

/// Text from elsewhere for a terminal or a log: control characters (C0, DEL, C1) and bytes that are no UTF-8 as \xNN,
/// so that no name moves a cursor or begins a line. With `lines`, line ends and tabs stay.
std::string visible(std::string_view text, bool lines = false);

}  // namespace slipway
