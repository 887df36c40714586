#include "model/dtype.h"

#include <array>
#include <string>

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

constexpr int kSequenceMark = 32, kOptionalMark = 64, kTypeCodes = 128;

int code_of(DType type) { return static_cast<int>(type); }
DType marked(DType type, int mark) { return static_cast<DType>(code_of(type) | mark); }

// Of every code, marks included; empty where there is no such element type.
const std::array<std::string, kTypeCodes>& type_names() {
  static const std::array<std::string, kTypeCodes> names = [] {
    std::array<std::string, kTypeCodes> made;
    for (int code = 0; code < kTypeCodes; ++code) {
      const int element = code % kSequenceMark;
      if (element >= kDTypeCount) continue;
      made[static_cast<size_t>(code)] = std::string(code & kOptionalMark ? "optional." : "") +
                                        (code & kSequenceMark ? "sequence." : "") +
                                        std::string(kRows[static_cast<size_t>(element)].name);
    }
    return made;
  }();
  return names;
}

}  // namespace

DType sequence_of(DType element) { return marked(element, kSequenceMark); }
DType optional_of(DType type) { return marked(type, kOptionalMark); }
bool is_sequence(DType type) { return !is_optional(type) && (code_of(type) & kSequenceMark) != 0; }
bool is_optional(DType type) { return (code_of(type) & kOptionalMark) != 0; }
bool is_tensor(DType type) { return code_of(type) < kSequenceMark; }
DType present_of(DType type) { return static_cast<DType>(code_of(type) & ~kOptionalMark); }
DType element_of(DType type) { return static_cast<DType>(code_of(type) % kSequenceMark); }

std::optional<DType> merge_types(DType declared, DType found) {
  if (declared == found || found == DType::kUndefined) return declared;
  if (declared == DType::kUndefined) return found;
  const DType a = element_of(declared), b = element_of(found);
  if (a != b && a != DType::kUndefined && b != DType::kUndefined) return std::nullopt;
  const DType element = a == DType::kUndefined ? b : a;
  if (is_optional(declared)) {
    const auto inner = merge_types(present_of(declared), present_of(found));
    return inner ? std::optional(optional_of(*inner)) : std::nullopt;
  }
  if (is_optional(found)) return merge_types(declared, present_of(found));
  if (is_sequence(declared) != is_sequence(found)) return std::nullopt;
  return is_sequence(declared) ? sequence_of(element) : element;
}

int bits_of(DType type) { return is_tensor(type) ? kRows[static_cast<size_t>(type)].bits : 0; }

size_t bytes_of(DType type, int64_t elements) {
  return (static_cast<size_t>(elements) * static_cast<size_t>(bits_of(type)) + 7) / 8;
}

std::string_view to_string(DType type) { return type_names()[static_cast<size_t>(type)]; }

DType parse_dtype(std::string_view name) {
  const auto& names = type_names();
  for (size_t i = 1; i < names.size(); ++i)
    if (names[i] == name && !name.empty()) return static_cast<DType>(i);
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
