#include "model/dtype.h"

#include <array>

namespace slipway {
namespace {

struct Row {
  std::string_view name;
  int bits;
};
constexpr std::array<Row, kDTypeCount> kRows = {{
    {"undefined", 0},  {"f32", 32},   {"u8", 8},         {"i8", 8},     {"u16", 16},  {"i16", 16},
    {"i32", 32},       {"i64", 64},   {"string", 0},     {"bool", 8},   {"f16", 16},  {"f64", 64},
    {"u32", 32},       {"u64", 64},   {"c64", 64},       {"c128", 128}, {"bf16", 16}, {"f8e4m3fn", 8},
    {"f8e4m3fnuz", 8}, {"f8e5m2", 8}, {"f8e5m2fnuz", 8}, {"u4", 4},     {"i4", 4},    {"f4e2m1", 4},
    {"f8e8m0", 8},     {"u2", 2},     {"i2", 2},
}};

}  // namespace

int bits_of(DType type) { return kRows[static_cast<size_t>(type)].bits; }

size_t bytes_of(DType type, int64_t elements) {
  return (static_cast<size_t>(elements) * static_cast<size_t>(bits_of(type)) + 7) / 8;
}

std::string_view to_string(DType type) { return kRows[static_cast<size_t>(type)].name; }

DType parse_dtype(std::string_view name) {
  for (size_t i = 1; i < kRows.size(); ++i)
    if (kRows[i].name == name) return static_cast<DType>(i);
  return DType::kUndefined;
}

bool is_float(DType type) {
  return type == DType::kFloat32 || type == DType::kFloat64 || type == DType::kFloat16 || type == DType::kBfloat16;
}

bool is_small_float(DType type) {
  return (type >= DType::kFloat8E4M3FN && type <= DType::kFloat8E5M2FNUZ) || type == DType::kFloat4E2M1 ||
         type == DType::kFloat8E8M0;
}

bool is_integer(DType type) {
  switch (type) {
    case DType::kUint8:
    case DType::kInt8:
    case DType::kUint16:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64:
    case DType::kUint32:
    case DType::kUint64:
    case DType::kUint4:
    case DType::kInt4:
    case DType::kUint2:
    case DType::kInt2:
      return true;
    default:
      return false;
  }
}

}  // namespace slipway
