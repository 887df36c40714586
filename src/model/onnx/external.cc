// External data: tensors whose bytes lie in files beside the model. A location is relative to the model's folder and
// may not leave it, neither by name nor through a symbolic link; offset and length are checked against the file's size.
#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

uint64_t parse_number(const std::string& text, const std::string& key, const std::string& name) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    fail(ErrorCode::kInvalidModel, "A tensor's external {} is no number; export the model again: '{}' of '{}'", key,
         text, name);
  return value;
}

bool has_parent_step(const std::string& path) {
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (path.compare(at, end - at, "..") == 0) return true;
    at = end + 1;
  }
  return false;
}

std::string entry_of(const onnx::TensorProto& proto, std::string_view key) {
  std::string value;
  for (const auto& entry : proto.external_data())
    if (entry.key() == key) value = entry.value();
  return value;
}

}  // namespace

std::string external_location(const onnx::TensorProto& proto) {
  const std::string location = entry_of(proto, "location");
  if (location.empty() || location[0] == '/' || location.find('\0') != std::string::npos || has_parent_step(location))
    fail(ErrorCode::kInvalidModel,
         "A tensor's external file must lie in the model's folder; put it there and save the model again: '{}' of '{}'",
         location, proto.name());
  return std::filesystem::path(location).lexically_normal().string();
}

std::string external_path(const std::string& folder, const std::string& location) {
  const std::string path = join_path(folder, location), real = real_path(path);
  if (real.empty())
    fail(ErrorCode::kNotFound, "The model's external data is missing; copy it beside the model: {}", path);
  if (!lies_in(real, folder))
    fail(ErrorCode::kInvalidModel,
         "A tensor's external file leads out of the model's folder; put the file itself there: '{}' in {}", location,
         folder);
  return real;
}

std::shared_ptr<const FileContents> ExternalData::open(const std::string& location) {
  auto& file = files_[location];
  if (file == nullptr) file = std::make_shared<const FileContents>(read_contents(external_path(folder_, location)));
  return file;
}

std::pair<std::span<const std::byte>, std::shared_ptr<const void>> ExternalData::find(const onnx::TensorProto& proto,
                                                                                      size_t bytes) {
  const std::string& name = proto.name();
  const std::string given_offset = entry_of(proto, "offset"), given_length = entry_of(proto, "length");
  const uint64_t offset = given_offset.empty() ? 0 : parse_number(given_offset, "offset", name);
  const uint64_t length = given_length.empty() ? bytes : parse_number(given_length, "length", name);
  if (folder_.empty())
    fail(ErrorCode::kInvalidModel, "The model keeps tensors in other files; open it from its folder: '{}' in '{}'",
         name, entry_of(proto, "location"));
  const std::string location = external_location(proto);
  const auto file = open(location);
  const auto data = file->bytes();
  if (length != bytes)
    fail(ErrorCode::kInvalidModel,
         "A tensor's external length differs from its shape; export the model again: {} bytes for {} in '{}'", length,
         bytes, name);
  if (offset > data.size() || bytes > data.size() - offset)
    fail(ErrorCode::kInvalidModel,
         "A tensor lies outside its external file; copy the file again: bytes {} to {} of {} in '{}' (tensor '{}')",
         offset, offset + bytes, data.size(), location, name);
  return {data.subspan(offset, bytes), file};
}

}  // namespace slipway
