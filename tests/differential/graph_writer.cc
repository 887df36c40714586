// Nodes are proposed at random and kept when they are valid: inference and the reference decide, each on the node alone
// with the concrete operands that it would have. What an operator takes comes from its signature; hints make a valid
// proposal likely where chance alone would rarely hit one.
#include "graph_writer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "call_hints.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "node_alone.h"

namespace slipway {
namespace {

constexpr int64_t kMostElements = 8192;
constexpr double kMostFlops = 3e6;

bool allows(const std::vector<DType>& types, DType type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

double special_value(Random& random, bool only_nan) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  if (only_nan) return kNaN;
  constexpr double kValues[] = {kNaN, kNaN, kNaN, kInfinity, -kInfinity, -0.0, 1e-40, -3e-42, 1e30, -1e30, 0.0, 65504};
  return kValues[random.below(std::size(kValues))];
}

}  // namespace

const Dims& Call::dims(size_t i) const { return writer.tensor(inputs[i]).dims(); }
DType Call::dtype(size_t i) const { return writer.tensor(inputs[i]).dtype(); }

bool Call::has_parameter(std::string_view name) const {
  return std::any_of(signature.parameters.begin(), signature.parameters.end(),
                     [&](const Signature::Parameter& p) { return p.name == name; });
}

void Call::operand(size_t i, ValueId id) {
  if (inputs.size() <= i) inputs.resize(i + 1, kNoValue);
  inputs[i] = id;
}

void Call::ints(std::string_view name, size_t i, std::vector<int64_t> values) {
  if (has_parameter(name) || spec.max_inputs == 1) {
    attributes.insert_or_assign(std::string(name), Attribute(std::move(values)));
  } else {
    attributes.erase(std::string(name));
    operand(i, writer.constant_ints(values));
  }
}

GraphWriter::GraphWriter(uint64_t seed, const Style& s) : random(seed), style(s) { graph.opsets[""] = style.opset; }

Tensor GraphWriter::random_tensor(DType dtype, const Dims& dims) {
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  const bool wide = chance(0.3), whole = chance(0.05);
  const double scale = std::exp2(static_cast<double>(any({0, 0, 0, 0, -1, 1, 3})));
  for (double& v : values) {
    const bool byte = dtype == DType::kInt8 || dtype == DType::kUint8;
    if (is_float(dtype))
      v = whole ? static_cast<double>(between(-4, 4)) : scale * random.normal();
    else if (dtype == DType::kBool)
      v = static_cast<double>(random.below(2));
    else if (byte && !wide)
      v = dtype == DType::kUint8 ? static_cast<double>(random.below(256)) : static_cast<double>(between(-128, 127));
    else
      v = static_cast<double>(dtype == DType::kInt32 || dtype == DType::kInt64 || dtype == DType::kInt16 ||
                                      dtype == DType::kInt8
                                  ? between(-3, 6)
                                  : between(0, 9));
    if (is_float(dtype) && style.special > 0 && chance(style.special)) v = special_value(random, style.only_nan);
  }
  return from_doubles(dtype, dims, values);
}

Dims GraphWriter::random_dims(int64_t rank) {
  Dims dims;
  for (int64_t i = 0; i < rank; ++i) {
    const bool leading = i == 0 && rank >= 2;
    const int64_t size = leading               ? (chance(0.8) ? style.batch : any({1, 2, 3, 5}))
                         : i == 1 && rank >= 3 ? any({1, 2, 3, 4, 5, 6, 8, 9, 16, 17, 24, 32, 33})
                         : rank <= 2           ? any({1, 2, 3, 4, 5, 7, 8, 10, 16, 17, 33, 64})
                                               : any({1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13});
    dims.push_back(chance(0.004) ? 0 : size);
  }
  return dims;
}

void GraphWriter::set_tensor(ValueId id, Tensor t) {
  if (tensors_.size() <= static_cast<size_t>(id)) tensors_.resize(static_cast<size_t>(id) + 1);
  tensors_[static_cast<size_t>(id)] = std::move(t);
}

ValueId GraphWriter::constant(Tensor t) {
  const ValueId id = graph.add_constant(fmt::format("{}c{}", style.prefix, names_++), t);
  set_tensor(id, std::move(t));
  return id;
}

ValueId GraphWriter::constant_ints(const std::vector<int64_t>& values) {
  return constant(Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values));
}

ValueId GraphWriter::input(Tensor t) {
  std::vector<Dim> dims(t.dims().begin(), t.dims().end());
  if (style.free_batch && !dims.empty() && t.dims()[0] == style.batch) dims[0] = Dim(std::string("N"));
  const ValueId id = graph.add_input(fmt::format("{}x{}", style.prefix, names_++), t.dtype(), Shape(std::move(dims)));
  set_tensor(id, std::move(t));
  publish(id);
  return id;
}

ValueId GraphWriter::capture(int index, const Tensor& t) {
  const ValueId id = graph.add_capture(fmt::format("{}k{}", style.prefix, names_++), index, t.dtype(), Shape());
  set_tensor(id, t);
  publish(id);
  return id;
}

ValueId GraphWriter::given(Tensor t, double constant_chance) {
  return style.is_body || chance(constant_chance) ? constant(std::move(t)) : input(std::move(t));
}

ValueId GraphWriter::fresh(DType dtype, const Dims& dims, double constant_chance) {
  if (chance(0.12)) {
    std::vector<ValueId> fitting;
    for (ValueId id = 0; id < graph.value_limit(); ++id)
      if (graph.value(id).is_constant() && tensor(id).dtype() == dtype && tensor(id).dims() == dims)
        fitting.push_back(id);
    if (!fitting.empty()) return any(fitting);
  }
  return given(random_tensor(dtype, dims), constant_chance);
}

ValueId GraphWriter::apply(std::string_view op, std::vector<ValueId> inputs, Attributes attributes) {
  const OpSpec* spec = find_op("", op, style.opset);
  if (spec == nullptr) return kNoValue;
  const Call call{.writer = *this,
                  .spec = *spec,
                  .signature = {},
                  .inputs = std::move(inputs),
                  .attributes = std::move(attributes)};
  return accept(call) ? pool_.back() : kNoValue;
}

ValueId GraphWriter::weight(DType dtype, const Dims& dims, int64_t channel_axis) {
  if (!style.quantised || dtype != DType::kFloat32 || style.opset < 13 || chance(0.15)) return fresh(dtype, dims, 0.9);
  const bool each = chance(0.7);
  const DType codes = chance(0.85) ? DType::kInt8 : DType::kUint8;
  Dims scales;
  if (each) scales = {dims[static_cast<size_t>(channel_axis)]};
  std::vector<double> s(static_cast<size_t>(element_count(scales))), zero(s.size(), 0);
  for (double& v : s) v = 0.002 + 0.02 * random.uniform();
  const bool zero_points = codes == DType::kUint8 || chance(0.3);
  if (codes == DType::kUint8)
    for (double& z : zero) z = 128;
  Tensor q(codes, dims);
  std::vector<double> values(static_cast<size_t>(q.elements()));
  for (double& v : values)
    v = codes == DType::kUint8 ? static_cast<double>(between(0, 255)) : static_cast<double>(between(-127, 127));
  std::vector<ValueId> operands = {constant(from_doubles(codes, dims, values)),
                                   constant(from_doubles(DType::kFloat32, scales, s))};
  if (zero_points) operands.push_back(constant(from_doubles(codes, scales, zero)));
  const Attributes axis = each ? Attributes{{"axis", channel_axis}} : Attributes{};
  const ValueId result = apply("DequantizeLinear", std::move(operands), axis);
  return result != kNoValue ? result : fresh(dtype, dims, 0.9);
}

ValueId GraphWriter::like(DType dtype, const Dims& dims, double pool_chance) {
  if (chance(pool_chance)) {
    std::vector<ValueId> fitting;
    for (const ValueId id : pool_)
      if (tensor(id).dtype() == dtype && tensor(id).dims() == dims) fitting.push_back(id);
    if (!fitting.empty()) return any(fitting);
  }
  return fresh(dtype, dims);
}

ValueId GraphWriter::from_pool(const std::vector<DType>& types, int64_t min_rank, int64_t max_rank) {
  std::vector<ValueId> fitting;
  for (const ValueId id : pool_) {
    const Tensor& t = tensor(id);
    if (allows(types, t.dtype()) && t.rank() >= min_rank && t.rank() <= max_rank) fitting.push_back(id);
  }
  if (fitting.empty()) return kNoValue;
  return chance(0.65) ? fitting.back() : any(fitting);
}

bool GraphWriter::accept(const Call& call) {
  try {
    NodeAlone alone = node_alone(
        graph, {std::string(call.spec.name), std::string(call.spec.domain), "", call.inputs, call.attributes},
        call.captures, call.outputs, tensors_);
    infer_shapes(alone.graph);
    for (NodeId n = 0; n < alone.graph.node_limit(); ++n)
      if (cost_of(alone.graph, alone.graph.node(n)).flops > kMostFlops) return false;
    for (const ValueId id : alone.graph.outputs()) {
      const Value& v = alone.graph.value(id);
      if (v.shape.is_static() && element_count(v.shape.to_dims()) > kMostElements) return false;
      if (!is_tensor(v.dtype)) return false;
    }
    std::vector<Tensor> results = evaluate(alone.graph, alone.inputs);
    for (const Tensor& t : results)
      if (t.elements() > kMostElements || t.dtype() == DType::kString) return false;
    std::vector<std::string> names;
    const std::vector<bool>& optional = call.signature.optional_results;
    for (size_t i = 0; i < call.outputs; ++i) {
      const bool left_out = call.outputs > 1 && i < optional.size() && optional[i] && chance(0.2) &&
                            (i + 1 < call.outputs || names != std::vector<std::string>(i));
      names.push_back(left_out ? "" : fmt::format("{}v{}", style.prefix, names_++));
    }
    const std::string name = chance(0.8) ? fmt::format("{}n{}", style.prefix, names_++) : "";
    const NodeId node = graph.add_node(
        {std::string(call.spec.name), std::string(call.spec.domain), name, call.inputs, call.attributes}, names);
    graph.set_captures(node, call.captures);
    for (size_t i = 0; i < results.size(); ++i) {
      const ValueId id = graph.node(node).outputs[i];
      if (id == kNoValue) continue;
      set_tensor(id, std::move(results[i]));
      publish(id);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

ValueId GraphWriter::choose_operand(const Call& call, const Signature::Operand& operand, DType bound, size_t i) {
  const std::vector<DType>& types = operand.types;
  if (types.empty()) return kNoValue;
  const CallHint* hint = hint_for(call.spec.name);
  const int64_t low = hint == nullptr ? 0 : hint->min_rank, high = hint == nullptr ? 5 : hint->max_rank;
  if (i == 0) {
    std::vector<DType> preferred = {style.dtype};
    if (!allows(types, style.dtype) || chance(0.15)) preferred = types;
    if (chance(0.9))
      if (const ValueId id = from_pool(preferred, low, high); id != kNoValue) return id;
    return fresh(allows(types, style.dtype) && chance(0.8) ? style.dtype : any(types),
                 random_dims(std::clamp<int64_t>(any({0, 1, 2, 2, 3, 4, 4, 4, 5}), low, high)), 0.15);
  }
  if (bound != DType::kUndefined) {
    if (chance(0.06)) return call.inputs[0];
    Dims dims = call.inputs[0] == kNoValue ? Dims{} : call.dims(0);
    const double kind = random.uniform();
    if (kind < 0.25 && !dims.empty())
      dims.erase(dims.begin(), dims.begin() + between(1, static_cast<int64_t>(dims.size())));
    else if (kind < 0.45)
      for (int64_t& d : dims) d = chance(0.5) ? 1 : d;
    else if (kind < 0.55 && dims.size() >= 3)
      dims = Dims{dims[1]};
    else if (kind < 0.6 && !dims.empty() && dims.size() < 5)
      dims.insert(dims.begin(), any({1, 1, 2}));
    return like(bound, dims, 0.6);
  }
  const bool index_like = types.size() <= 2 && !is_float(types[0]);
  if (!index_like) return fresh(any(types), random_dims(any({0, 1, 1, 2})), 0.8);
  return fresh(any(types), chance(0.3) ? Dims{} : Dims{between(1, 3)}, 0.95);
}

Call GraphWriter::propose(const OpSpec& spec) {
  Call call{.writer = *this, .spec = spec, .signature = signature_of(spec, style.opset)};
  std::map<std::string, DType> bound;
  for (const Signature::Operand& operand : call.signature.operands) {
    if (operand.arity == Signature::Arity::kOptional && chance(0.6)) {
      call.inputs.push_back(kNoValue);
      continue;
    }
    const int64_t count = operand.arity == Signature::Arity::kVariadic ? any({1, 2, 2, 2, 3, 4}) : 1;
    for (int64_t k = 0; k < count; ++k) {
      const auto known = operand.same_types ? bound.find(operand.type_variable) : bound.end();
      const DType type = known == bound.end() ? DType::kUndefined : known->second;
      call.inputs.push_back(choose_operand(call, operand, type, call.inputs.size()));
      if (call.inputs.back() != kNoValue) bound.emplace(operand.type_variable, tensor(call.inputs.back()).dtype());
    }
  }
  while (!call.inputs.empty() && call.inputs.back() == kNoValue) call.inputs.pop_back();
  call.outputs = static_cast<size_t>(std::max(1, spec.min_outputs));
  const int64_t rank = call.inputs.empty() || call.inputs[0] == kNoValue ? 1 : call.rank(0);
  for (const Signature::Parameter& p : call.signature.parameters) {
    if (!p.required && chance(0.6)) continue;
    switch (p.kind) {
      case Signature::Kind::kInt:
        call.attributes[p.name] = any({0, 1, 1, 2, 3, -1, -2, rank - 1});
        break;
      case Signature::Kind::kInts: {
        std::vector<int64_t> values(static_cast<size_t>(between(1, std::max<int64_t>(rank, 1))));
        for (int64_t& v : values) v = between(-1, std::max<int64_t>(rank - 1, 1));
        call.attributes[p.name] = values;
        break;
      }
      case Signature::Kind::kFloat:
        call.attributes[p.name] = static_cast<float>(any({-1, 0, 1, 2, 3, 6})) * 0.5f;
        break;
      case Signature::Kind::kFloats:
        call.attributes[p.name] = std::vector<float>{0.5f, 2.0f};
        break;
      case Signature::Kind::kString:
        if (!words_for(p.name).empty()) call.attributes[p.name] = any(words_for(p.name));
        break;
      case Signature::Kind::kOther:
        break;
    }
  }
  const CallHint* hint = hint_for(spec.name);
  if (hint != nullptr && hint->complete != nullptr && !call.inputs.empty() == (spec.max_inputs != 0))
    hint->complete(call);
  while (!call.inputs.empty() && call.inputs.back() == kNoValue) call.inputs.pop_back();
  return call;
}

bool GraphWriter::add(std::string_view op, int attempts) {
  const OpSpec* spec = find_op("", op, style.opset);
  if (spec == nullptr) return false;
  for (int i = 0; i < attempts; ++i)
    if (accept(propose(*spec))) return true;
  return false;
}

ValueId GraphWriter::quantise(ValueId id) {
  if (tensor(id).dtype() != DType::kFloat32) return id;
  float low = 0, high = 0;
  for (const float v : tensor(id).values<float>())
    if (std::isfinite(v) && std::fabs(v) < 1e6f) {
      low = std::min(low, v);
      high = std::max(high, v);
    }
  const bool is_signed = chance(0.4);
  float scale = is_signed ? std::max(-low, high) / 127 : (high - low) / 255;
  if (scale < 1e-6f) scale = 0.05f;
  if (chance(0.2)) scale = std::exp2(std::round(std::log2(scale)));
  const auto zero = static_cast<uint8_t>(std::clamp(std::nearbyint(-low / scale), 0.0f, 255.0f));
  const ValueId s = constant(Tensor::scalar(scale));
  const ValueId z = is_signed ? constant(Tensor::scalar<int8_t>(chance(0.8) ? int8_t{0} : int8_t{-7}))
                              : constant(Tensor::scalar<uint8_t>(chance(0.8) ? zero : uint8_t{0}));
  const ValueId codes = apply("QuantizeLinear", {id, s, z});
  const ValueId result = codes == kNoValue ? kNoValue : apply("DequantizeLinear", {codes, s, z});
  return result == kNoValue ? id : result;
}

}  // namespace slipway
