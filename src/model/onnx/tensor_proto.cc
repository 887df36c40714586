// TensorProto ⇄ Tensor. Data may be raw bytes, a typed list or external; in each case the number of elements that the
// shape declares is compared with the data present before memory is taken. Bytes of bool tensors become 0 or 1.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/onnx.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

constexpr size_t kKeepRawBytes = 4096;  // raw data of this size or more is taken over instead of copied

[[noreturn]] void wrong_size(const onnx::TensorProto& proto, size_t present, size_t declared, const char* unit) {
  fail(ErrorCode::kInvalidModel,
       "A tensor's data does not fit its shape; the file may be truncated, export it again: {} {} for {} in '{}' {}",
       present, unit, declared, proto.name(), to_string(std::span(proto.dims().data(), proto.dims().size())));
}

bool is_bool_clean(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b <= std::byte{1}; });
}

bool is_aligned(const void* p, DType dtype) {
  const auto alignment = static_cast<size_t>(std::clamp(bits_of(dtype) / 8, 1, 8));
  return reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

Tensor copy_bytes(DType dtype, Dims dims, std::span<const std::byte> bytes) {
  Tensor tensor(dtype, std::move(dims));
  if (!bytes.empty()) std::memcpy(tensor.mutable_raw(), bytes.data(), bytes.size());
  if (dtype == DType::kBool) {
    std::byte* raw = tensor.mutable_raw();
    std::transform(raw, raw + tensor.bytes(), raw, [](std::byte b) { return std::min(b, std::byte{1}); });
  }
  return tensor;
}

template <typename To, typename List>
Tensor from_list(const onnx::TensorProto& proto, DType dtype, Dims dims, const List& list, size_t count) {
  if (static_cast<size_t>(list.size()) != count) wrong_size(proto, static_cast<size_t>(list.size()), count, "elements");
  Tensor tensor(dtype, std::move(dims));
  auto* to = reinterpret_cast<To*>(tensor.mutable_raw());
  for (size_t i = 0; i < count; ++i) to[i] = static_cast<To>(list[static_cast<int>(i)]);
  return tensor;
}

Tensor from_typed(const onnx::TensorProto& p, DType dtype, Dims dims, size_t elements) {
  switch (dtype) {
    case DType::kFloat32:
      return from_list<float>(p, dtype, std::move(dims), p.float_data(), elements);
    case DType::kComplex64:
      return from_list<float>(p, dtype, std::move(dims), p.float_data(), 2 * elements);
    case DType::kFloat64:
      return from_list<double>(p, dtype, std::move(dims), p.double_data(), elements);
    case DType::kComplex128:
      return from_list<double>(p, dtype, std::move(dims), p.double_data(), 2 * elements);
    case DType::kInt64:
      return from_list<int64_t>(p, dtype, std::move(dims), p.int64_data(), elements);
    case DType::kUint64:
      return from_list<uint64_t>(p, dtype, std::move(dims), p.uint64_data(), elements);
    case DType::kUint32:
      return from_list<uint32_t>(p, dtype, std::move(dims), p.uint64_data(), elements);
    case DType::kInt32:
      return from_list<int32_t>(p, dtype, std::move(dims), p.int32_data(), elements);
    case DType::kInt16:
    case DType::kUint16:
    case DType::kFloat16:
    case DType::kBfloat16:
      return from_list<uint16_t>(p, dtype, std::move(dims), p.int32_data(), elements);
    case DType::kBool:
      return from_list<bool>(p, dtype, std::move(dims), p.int32_data(), elements);
    case DType::kInt4:
    case DType::kUint4:
    case DType::kFloat4E2M1:
    case DType::kInt2:
    case DType::kUint2:  // one list element is a byte, which holds several
      return from_list<uint8_t>(p, dtype, std::move(dims), p.int32_data(),
                                bytes_of(dtype, static_cast<int64_t>(elements)));
    default:
      return from_list<uint8_t>(p, dtype, std::move(dims), p.int32_data(), elements);
  }
}

}  // namespace

Tensor take_tensor(onnx::TensorProto& proto, ExternalData& external) {
  const DType dtype = element_type(proto.data_type(), "tensor '" + proto.name() + "'");
  if (dtype == DType::kUndefined)
    fail(ErrorCode::kInvalidModel, "A tensor has no element type; export the model again: '{}'", proto.name());
  if (proto.has_segment())
    fail(ErrorCode::kUnsupported, "Tensors in segments are not supported; save the model without them: '{}'",
         proto.name());
  Dims dims(proto.dims().begin(), proto.dims().end());
  const auto elements = static_cast<size_t>(element_count(dims));
  if (dtype == DType::kString) {
    if (static_cast<size_t>(proto.string_data_size()) != elements)
      wrong_size(proto, static_cast<size_t>(proto.string_data_size()), elements, "strings");
    return Tensor::of_strings(std::move(dims), {proto.string_data().begin(), proto.string_data().end()});
  }
  const size_t bytes = bytes_of(dtype, static_cast<int64_t>(elements));
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    auto [data, owner] = external.find(proto, bytes);
    if (is_aligned(data.data(), dtype) && (dtype != DType::kBool || is_bool_clean(data)))
      return Tensor::view(dtype, std::move(dims), data.data(), std::move(owner));
    return copy_bytes(dtype, std::move(dims), data);
  }
  if (!proto.has_raw_data()) return from_typed(proto, dtype, std::move(dims), elements);
  const auto raw = std::as_bytes(std::span(proto.raw_data()));
  if (raw.size() != bytes) wrong_size(proto, raw.size(), bytes, "bytes");
  if (raw.size() < kKeepRawBytes || dtype == DType::kBool || !is_aligned(raw.data(), dtype))
    return copy_bytes(dtype, std::move(dims), raw);
  const auto owner = std::make_shared<const std::string>(std::move(*proto.mutable_raw_data()));
  return Tensor::view(dtype, std::move(dims), owner->data(), owner);
}

void to_proto(const Tensor& tensor, const std::string& name, onnx::TensorProto& proto) {
  proto.set_name(name);
  proto.set_data_type(static_cast<int>(tensor.dtype()));
  for (int64_t d : tensor.dims()) proto.add_dims(d);
  if (tensor.dtype() == DType::kString)
    for (const std::string& s : tensor.strings()) proto.add_string_data(s);
  else
    proto.set_raw_data(tensor.raw(), tensor.bytes());
}

namespace {

template <typename Proto>
Proto read_value(const std::string& path, const char* kind) {
  const auto bytes = read_file(path, INT32_MAX);
  Proto proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    fail(ErrorCode::kInvalidModel, "This is no file of a value (a {}, as ONNX's input_0.pb); name another: {}", kind,
         path);
  return proto;
}

// An empty one has the element type that is declared.
Tensor take_sequence(onnx::SequenceProto& proto, ExternalData& external, DType declared, const std::string& path) {
  if (proto.elem_type() != onnx::SequenceProto::UNDEFINED && proto.elem_type() != onnx::SequenceProto::TENSOR)
    fail(ErrorCode::kUnsupported, "Only sequences of tensors are supported; name another file: {}", path);
  DType element = element_of(declared);
  std::vector<Tensor> items;
  for (auto& item : *proto.mutable_tensor_values()) {
    items.push_back(take_tensor(item, external));
    if (items.size() == 1) element = items[0].dtype();
    if (items.back().dtype() != element)
      fail(ErrorCode::kInvalidModel, "A sequence's tensors differ in type; name another file: {} and {} in {}",
           to_string(element), to_string(items.back().dtype()), path);
  }
  return Tensor::sequence(element, std::move(items));
}

}  // namespace

Tensor load_tensor_pb(const std::string& path) {
  auto proto = read_value<onnx::TensorProto>(path, "TensorProto");
  ExternalData external(parent_folder(path));
  return take_tensor(proto, external);
}

Tensor load_value_pb(const std::string& path, DType declared) {
  ExternalData external(parent_folder(path));
  if (is_sequence(declared)) {
    auto proto = read_value<onnx::SequenceProto>(path, "SequenceProto");
    return take_sequence(proto, external, declared, path);
  }
  if (!is_optional(declared)) return load_tensor_pb(path);
  auto proto = read_value<onnx::OptionalProto>(path, "OptionalProto");
  if (proto.has_tensor_value()) return take_tensor(*proto.mutable_tensor_value(), external);
  if (proto.has_sequence_value()) return take_sequence(*proto.mutable_sequence_value(), external, declared, path);
  return Tensor::absent(declared);
}

void save_tensor_pb(const Tensor& tensor, const std::string& name, const std::string& path) {
  onnx::TensorProto proto;
  to_proto(tensor, name, proto);
  std::string bytes;
  if (!proto.SerializeToString(&bytes))
    fail(ErrorCode::kUnsupported, "A tensor above 2 GB can't be written to one file: '{}' to {}", name, path);
  write_file(path, bytes);
}

}  // namespace slipway
