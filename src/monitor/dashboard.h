#pragma once
#include <string>

namespace slipway {

/// The dashboard as one page, with its styles and scripts inside.
std::string dashboard_html();

}  // namespace slipway
