// What ONNX releases after IR version 8 added to the schema. Debian's generated classes keep such fields as unknown
// fields, which are read here by number (onnx.proto, IR versions 9 to 13).
#include <google/protobuf/unknown_field_set.h>

#include "base/error.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

constexpr int kFunctionAttributeProto = 11;
constexpr int kFunctionOverload = 13;
constexpr int kNodeOverload = 8;

std::string text_field(const google::protobuf::UnknownFieldSet& fields, int number) {
  std::string text;
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto& field = fields.field(i);
    if (field.number() == number && field.type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      text = field.length_delimited();
  }
  return text;
}

}  // namespace

std::vector<onnx::AttributeProto> default_attributes(const onnx::FunctionProto& function) {
  std::vector<onnx::AttributeProto> attributes;
  const auto& fields = function.unknown_fields();
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto& field = fields.field(i);
    if (field.number() != kFunctionAttributeProto ||
        field.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      continue;
    if (!attributes.emplace_back().ParseFromString(field.length_delimited()))
      fail(ErrorCode::kInvalidModel, "A function's default attribute can't be read; export the model again: {}",
           function.name());
  }
  return attributes;
}

std::string overload_of(const onnx::FunctionProto& function) {
  return text_field(function.unknown_fields(), kFunctionOverload);
}

std::string overload_of(const onnx::NodeProto& node) { return text_field(node.unknown_fields(), kNodeOverload); }

DType element_type(int number, const std::string& where) {
  if (number < 0 || number >= kDTypeCount)
    fail(ErrorCode::kUnsupported, "The element type is not supported; export with a common one: number {} at {}",
         number, where);
  return static_cast<DType>(number);
}

}  // namespace slipway
