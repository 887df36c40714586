// ONNX's operator schemas (libonnx, opset 17 and before) as signatures: so an operator that the registry gains is
// called with fitting types and attributes without being named here.
#include "signature.h"

#include <algorithm>
#include <map>
#include <utility>

#ifndef ONNX_ML
#define ONNX_ML 1
#endif
#ifndef ONNX_NAMESPACE
#define ONNX_NAMESPACE onnx
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <onnx/defs/schema.h>
#pragma GCC diagnostic pop

namespace slipway {
namespace {

constexpr int64_t kLastKnownOpset = 17;

struct TypeName {
  const char* name;
  DType dtype;
};
constexpr TypeName kTypeNames[] = {
    {"tensor(float)", DType::kFloat32},     {"tensor(double)", DType::kFloat64}, {"tensor(float16)", DType::kFloat16},
    {"tensor(bfloat16)", DType::kBfloat16}, {"tensor(int8)", DType::kInt8},      {"tensor(uint8)", DType::kUint8},
    {"tensor(int16)", DType::kInt16},       {"tensor(uint16)", DType::kUint16},  {"tensor(int32)", DType::kInt32},
    {"tensor(uint32)", DType::kUint32},     {"tensor(int64)", DType::kInt64},    {"tensor(uint64)", DType::kUint64},
    {"tensor(bool)", DType::kBool},
};

Signature::Kind kind_of(onnx::AttributeProto::AttributeType type) {
  switch (type) {
    case onnx::AttributeProto::INT:
      return Signature::Kind::kInt;
    case onnx::AttributeProto::INTS:
      return Signature::Kind::kInts;
    case onnx::AttributeProto::FLOAT:
      return Signature::Kind::kFloat;
    case onnx::AttributeProto::FLOATS:
      return Signature::Kind::kFloats;
    case onnx::AttributeProto::STRING:
      return Signature::Kind::kString;
    default:
      return Signature::Kind::kOther;
  }
}

Signature by_arity(const OpSpec& spec) {
  Signature signature;
  const int most = spec.max_inputs < 0 ? std::max(spec.min_inputs, 1) : spec.max_inputs;
  for (int i = 0; i < most; ++i)
    signature.operands.push_back({{DType::kFloat32},
                                  "T",
                                  spec.max_inputs < 0 && i == most - 1 ? Signature::Arity::kVariadic
                                  : i < spec.min_inputs                ? Signature::Arity::kSingle
                                                                       : Signature::Arity::kOptional});
  return signature;
}

Signature read_signature(const OpSpec& spec, int64_t opset) {
  const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Schema(
      std::string(spec.name), static_cast<int>(std::min(opset, kLastKnownOpset)), std::string(spec.domain));
  if (schema == nullptr) return by_arity(spec);
  Signature signature;
  signature.deprecated = schema->Deprecated();
  for (const auto& input : schema->inputs()) {
    Signature::Operand operand;
    operand.type_variable = input.GetTypeStr();
    operand.arity = static_cast<Signature::Arity>(input.GetOption());
    operand.same_types = input.GetIsHomogeneous();
    for (const TypeName& row : kTypeNames)  // in this order: the schema's sets have none
      if (std::any_of(input.GetTypes().begin(), input.GetTypes().end(),
                      [&](const std::string* name) { return *name == row.name; }))
        operand.types.push_back(row.dtype);
    signature.operands.push_back(std::move(operand));
  }
  for (const auto& [name, attribute] : schema->attributes())
    signature.parameters.push_back({name, kind_of(attribute.type), attribute.required,
                                    attribute.type == onnx::AttributeProto::STRING ? attribute.default_value.s() : ""});
  for (const auto& output : schema->outputs())
    signature.optional_results.push_back(output.GetOption() == onnx::OpSchema::Optional);
  return signature;
}

}  // namespace

const Signature& signature_of(const OpSpec& spec, int64_t opset) {
  static std::map<std::pair<const OpSpec*, int64_t>, Signature> known;
  const auto [it, is_new] = known.try_emplace({&spec, opset});
  if (is_new) it->second = read_signature(spec, opset);
  return it->second;
}

}  // namespace slipway
