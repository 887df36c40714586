#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace slipway {

/// The file in a multipart/form-data body (RFC 7578), a view into it: the first part with a file name, else the first
/// part. Nothing when `content_type` is another. Fails with kInvalidArgument for a body that is no such form, or has no
/// part.
std::optional<std::span<const std::byte>> form_file(std::string_view content_type, std::span<const std::byte> body);

}  // namespace slipway
