#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace slipway {

/// A part of a form: views into its body.
struct FormPart {
  std::string_view name;
  bool is_file = false;  ///< has a file name
  std::span<const std::byte> content;
};

/// The parts of a multipart/form-data body (RFC 7578), at least one. Nothing when `content_type` is another. Fails with
/// kInvalidArgument for a body that is no such form, or has no part.
std::optional<std::vector<FormPart>> form_parts(std::string_view content_type, std::span<const std::byte> body);

/// The first part with a file name, else the first part.
std::span<const std::byte> form_file(const std::vector<FormPart>& parts);

}  // namespace slipway
