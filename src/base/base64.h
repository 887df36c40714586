#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// RFC 4648, with padding.
std::string base64_encode(std::string_view bytes);
std::string base64_encode(std::span<const std::byte> bytes);
/// Strict: nothing when there is a character outside the alphabet, or the padding is wrong.
std::optional<std::vector<std::byte>> base64_decode(std::string_view text);

}  // namespace slipway
