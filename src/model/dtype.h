#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace slipway {

/// Element types, numbered as ONNX's TensorProto.DataType. A value that is no tensor has the element type of the
/// tensors in it, with marks above kDTypeCount: sequence_of(), optional_of().
enum class DType : uint8_t {
  kUndefined = 0,
  kFloat32 = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kFloat64 = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
  kFloat8E8M0 = 24,
  kUint2 = 25,
  kInt2 = 26,
};
inline constexpr int kDTypeCount = 27;

/// ONNX's sequence of tensors of that type.
DType sequence_of(DType element);
/// ONNX's optional, of a tensor type or a sequence: a value that may be absent. One that is there has its own type.
DType optional_of(DType type);
bool is_sequence(DType type);  ///< not an optional one
bool is_optional(DType type);
bool is_tensor(DType type);  ///< neither; kUndefined too
/// Without the mark of an optional.
DType present_of(DType type);
/// The element type of the tensors in it.
DType element_of(DType type);
/// What is known of a value that is declared as the one and found to be the other: what may be absent may be there,
/// kUndefined is any element type. nullopt when they contradict each other.
std::optional<DType> merge_types(DType declared, DType found);

/// Bits an element takes in a tensor's bytes (4-bit types are packed two a byte, 2-bit types four, the first in the
/// lowest bits); 0 for kString, sequences and optionals.
int bits_of(DType type);
/// Bytes of `elements` elements, the last byte padded.
size_t bytes_of(DType type, int64_t elements);
/// "f32", "u8", "i64", "bool", "f16", "sequence.f32", "optional.sequence.f32", …: the names of the text form.
std::string_view to_string(DType type);
/// kUndefined when there is no such name.
DType parse_dtype(std::string_view name);
/// The types that a model computes in: 16, 32 and 64 bits; not those that values are only stored in.
bool is_float(DType type);
/// The 8-bit and 4-bit floats, which values are only stored in.
bool is_small_float(DType type);
/// Any of the signed or unsigned integers, 2 to 64 bits; not bool.
bool is_integer(DType type);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kUint8;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kInt8;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::kUint16;
};
template <>
struct DTypeOf<int16_t> {
  static constexpr DType value = DType::kInt16;
};
template <>
struct DTypeOf<uint32_t> {
  static constexpr DType value = DType::kUint32;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct DTypeOf<uint64_t> {
  static constexpr DType value = DType::kUint64;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kInt64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::kBool;
};
template <typename T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace slipway
