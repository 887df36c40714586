// Names of the Open Inference Protocol v2.
#include "serve/protocol.h"

#include <array>
#include <utility>

namespace slipway {
namespace {
constexpr std::array<std::pair<DType, std::string_view>, 14> kDatatypes = {{{DType::kBool, "BOOL"},
                                                                            {DType::kUint8, "UINT8"},
                                                                            {DType::kUint16, "UINT16"},
                                                                            {DType::kUint32, "UINT32"},
                                                                            {DType::kUint64, "UINT64"},
                                                                            {DType::kInt8, "INT8"},
                                                                            {DType::kInt16, "INT16"},
                                                                            {DType::kInt32, "INT32"},
                                                                            {DType::kInt64, "INT64"},
                                                                            {DType::kFloat16, "FP16"},
                                                                            {DType::kBfloat16, "BF16"},
                                                                            {DType::kFloat32, "FP32"},
                                                                            {DType::kFloat64, "FP64"},
                                                                            {DType::kString, "BYTES"}}};
}  // namespace

std::string_view datatype_name(DType type) {
  for (const auto& [known, name] : kDatatypes)
    if (known == type) return name;
  return {};
}

DType parse_datatype(std::string_view text) {
  for (const auto& [type, name] : kDatatypes)
    if (name == text) return type;
  return DType::kUndefined;
}

const char* to_string(Variant variant) {
  constexpr const char* names[kVariantCount] = {"stable", "candidate", "pinned"};
  return names[static_cast<int>(variant)];
}

}  // namespace slipway
