// Requests against a model's ports: names, types, shapes, sizes.
#include "serve/wire.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace slipway {
namespace {

constexpr int64_t kMaxWireRank = 16;

/// Names come from the network: shown short and without control characters.
std::string shown(const std::string& name) {
  std::string text = name.substr(0, 64);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return name.size() > 64 ? text + "…" : text;
}

std::string names_of(const std::vector<Port>& ports) {
  std::string names;
  for (const Port& port : ports) names += (names.empty() ? "" : ", ") + port.name;
  return names;
}

int64_t checked_elements(const WireTensor& tensor) {
  int64_t elements = 1;
  for (const int64_t d : tensor.dims) {
    if (d < 0 || (d > 0 && elements > std::numeric_limits<int64_t>::max() / 16 / d))
      fail(ErrorCode::kInvalidArgument, "The shape of a tensor is out of range: '{}' {}", shown(tensor.name),
           to_string(tensor.dims));
    elements *= d;
  }
  return elements;
}

void check_bytes(const WireTensor& tensor) {
  const int64_t elements = checked_elements(tensor);
  if (tensor.dtype != DType::kString) {
    const size_t bytes = bytes_of(tensor.dtype, elements);
    if (bytes != tensor.bytes.size())
      fail(ErrorCode::kInvalidArgument,
           "The data of a tensor do not fill its shape: '{}' {} {} needs {} bytes, {} came", shown(tensor.name),
           datatype_name(tensor.dtype), to_string(tensor.dims), bytes, tensor.bytes.size());
    if (tensor.dtype == DType::kBool &&
        std::any_of(tensor.bytes.begin(), tensor.bytes.end(), [](std::byte b) { return b > std::byte{1}; }))
      fail(ErrorCode::kInvalidArgument, "A BOOL tensor holds bytes of 0 and 1 only: '{}'", shown(tensor.name));
    return;
  }
  size_t at = 0;
  int64_t count = 0;
  for (; at + 4 <= tensor.bytes.size(); ++count) {
    uint32_t length = 0;
    std::memcpy(&length, tensor.bytes.data() + at, 4);
    if (length > tensor.bytes.size() - at - 4) break;
    at += 4 + length;
  }
  if (at != tensor.bytes.size() || count != elements)
    fail(
        ErrorCode::kInvalidArgument,
        "The lengths in a BYTES tensor do not fit its data; each element is a 4-byte length and so many bytes: '{}' {}",
        shown(tensor.name), to_string(tensor.dims));
}

bool fits(const Dims& wanted, const Dims& given) {
  return std::equal(wanted.begin(), wanted.end(), given.begin(), given.end(),
                    [](int64_t w, int64_t g) { return w == -1 || w == g; });
}

}  // namespace

Tensor to_tensor(const WireTensor& wire) {
  check_bytes(wire);
  if (wire.dtype != DType::kString) {
    Tensor tensor(wire.dtype, wire.dims);
    if (!wire.bytes.empty()) std::memcpy(tensor.mutable_raw(), wire.bytes.data(), wire.bytes.size());
    return tensor;
  }
  std::vector<std::string> strings;
  for (size_t at = 0; at < wire.bytes.size();) {
    uint32_t length = 0;
    std::memcpy(&length, wire.bytes.data() + at, 4);
    strings.emplace_back(reinterpret_cast<const char*>(wire.bytes.data()) + at + 4, length);
    at += 4 + length;
  }
  return Tensor::of_strings(wire.dims, std::move(strings));
}

std::vector<std::byte> wire_bytes(const Tensor& tensor) {
  std::vector<std::byte> bytes;
  const auto append = [&](const void* data, size_t n) {
    const auto* p = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), p, p + n);
  };
  if (tensor.dtype() != DType::kString) {
    append(tensor.raw(), tensor.bytes());
    return bytes;
  }
  for (const std::string& s : tensor.strings()) {
    const auto length = static_cast<uint32_t>(s.size());
    append(&length, 4);
    append(s.data(), s.size());
  }
  return bytes;
}

int64_t match_inputs(InferRequest& request, const ModelVersion& version) {
  const std::vector<Port>& ports = version.inputs();
  const bool any_rows = version.max_rows() > 0;
  int64_t rows = any_rows ? -1 : 1;
  std::vector<WireTensor> ordered;
  for (const WireTensor& t : request.inputs)
    if (std::none_of(ports.begin(), ports.end(), [&](const Port& p) { return p.name == t.name; }))
      fail(ErrorCode::kInvalidArgument, "The model has no such input; it takes {}: '{}'", names_of(ports),
           shown(t.name));
  for (const Port& port : ports) {
    const auto found = std::find_if(request.inputs.begin(), request.inputs.end(),
                                    [&](const WireTensor& t) { return t.name == port.name; });
    if (found == request.inputs.end())
      fail(ErrorCode::kInvalidArgument, "An input is missing; the model takes {}: '{}'", names_of(ports), port.name);
    if (found->dtype != port.dtype)
      fail(ErrorCode::kInvalidArgument, "An input has the wrong type: '{}' is {}, {} came", port.name,
           datatype_name(port.dtype), datatype_name(found->dtype));
    if (found->dims.size() > kMaxWireRank || !fits(port.dims, found->dims))
      fail(ErrorCode::kInvalidArgument, "An input has the wrong shape: '{}' is {}{}, {} came", port.name,
           to_string(port.dims), std::count(port.dims.begin(), port.dims.end(), -1) > 0 ? " (?: any)" : "",
           found->dims.size() > kMaxWireRank ? "too many axes" : to_string(found->dims));
    check_bytes(*found);
    if (const int axis = any_rows ? version.batching().inputs.at(ordered.size()) : -1; axis >= 0) {
      const int64_t own = found->dims.at(static_cast<size_t>(axis));
      if (rows == -1) rows = own;
      if (own != rows || rows == 0)
        fail(ErrorCode::kInvalidArgument, "The inputs must have equal numbers of rows, not 0: '{}' has {}, another {}",
             port.name, own, rows);
    }
    ordered.push_back(*found);
  }
  if (request.inputs.size() != ports.size())
    fail(ErrorCode::kInvalidArgument, "An input came twice; the model takes {}.", names_of(ports));
  for (const std::string& name : request.outputs)
    if (std::none_of(version.outputs().begin(), version.outputs().end(), [&](const Port& p) { return p.name == name; }))
      fail(ErrorCode::kInvalidArgument, "The model has no such output; it gives {}: '{}'", names_of(version.outputs()),
           shown(name));
  request.inputs = std::move(ordered);
  return rows;
}

}  // namespace slipway
