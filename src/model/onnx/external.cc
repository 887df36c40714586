// External data: tensors whose bytes lie in files beside the model. A location is relative to the model's folder and
// may not leave it, neither by name nor through a symbolic link; offset and length are checked against the file's size.
#include <charconv>
#include <cstdlib>

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

std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  std::string real = resolved == nullptr ? "" : resolved;
  std::free(resolved);
  return real;
}

bool has_parent_step(const std::string& path) {
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (path.compare(at, end - at, "..") == 0) return true;
    at = end + 1;
  }
  return false;
}

}  // namespace

std::pair<std::span<const std::byte>, std::shared_ptr<const void>> ExternalData::find(const onnx::TensorProto& proto,
                                                                                      size_t bytes) {
  const std::string& name = proto.name();
  std::string location;
  uint64_t offset = 0, length = bytes;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = parse_number(entry.value(), "offset", name);
    if (entry.key() == "length") length = parse_number(entry.value(), "length", name);
  }
  if (folder_.empty())
    fail(ErrorCode::kInvalidModel, "The model keeps tensors in other files; open it from its folder: '{}' in '{}'",
         name, location);
  if (location.empty() || location[0] == '/' || location.find('\0') != std::string::npos || has_parent_step(location))
    fail(ErrorCode::kInvalidModel,
         "A tensor's external file must lie in the model's folder; put it there and save the model again: '{}' of '{}'",
         location, name);
  auto& file = files_[location];
  if (file == nullptr) {
    const std::string path = join_path(folder_, location);
    const std::string root = real_path(folder_), real = real_path(path);
    if (real.empty())
      fail(ErrorCode::kNotFound, "The model's external data is missing; copy it beside the model: {} (tensor '{}')",
           path, name);
    if (!real.starts_with(root == "/" ? root : root + "/"))
      fail(ErrorCode::kInvalidModel,
           "A tensor's external file leads out of the model's folder; put the file itself there: '{}' of '{}'",
           location, name);
    file = std::make_shared<const MappedFile>(real);
  }
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
