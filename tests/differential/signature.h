#pragma once
#include <string>
#include <vector>

#include "model/dtype.h"
#include "model/op.h"

namespace slipway {

/// What a node of an operator may be given, by ONNX's own schema. Of operators that the schema does not know (it ends
/// at opset 17), what is known of the nearest version, or the registry's arity alone.
struct Signature {
  enum class Arity { kSingle, kOptional, kVariadic };
  struct Operand {
    std::vector<DType> types;  ///< those that a graph of numbers may hold
    std::string type_variable;
    Arity arity = Arity::kSingle;
    bool same_types = true;  ///< of a variadic operand
  };
  enum class Kind { kInt, kInts, kFloat, kFloats, kString, kOther };
  struct Parameter {
    std::string name;
    Kind kind = Kind::kOther;
    bool required = false;
    std::string fallback;  ///< a string's default
  };
  std::vector<Operand> operands;
  std::vector<Parameter> parameters;
  std::vector<bool> optional_results;
  bool deprecated = false;
};

const Signature& signature_of(const OpSpec& spec, int64_t opset);

}  // namespace slipway
