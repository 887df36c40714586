// Random small chains as models have them (a linear operator, constants of any shape that broadcasts, activations
// written out, residuals, moves, quantisers), with every operand an input, a constant or another operand's twin. A
// constant may raise the rank of what it meets, or be as large as it. The passes, every candidate by chance and the
// plan opened again must give what the reference gives.
#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/passes/pipeline.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

class ChainMaker {
 public:
  explicit ChainMaker(uint64_t seed) : random_(seed) {
    graph_.opsets[""] = 17;
    graph_.ir_version = 8;
  }

  Graph make() {
    ValueId v = linear();
    for (uint64_t i = 0; i < 1 + random_.below(4); ++i) v = stage(v);
    if (random_.below(3) == 0) v = quantised(v);
    graph_.add_output(v);
    if (random_.below(4) == 0) graph_.add_output(made_[random_.below(made_.size())]);
    return std::move(graph_);
  }
  std::vector<Tensor> inputs;

 private:
  ValueId add(const char* op, std::vector<ValueId> operands, Attributes attributes = {}) {
    const ValueId v = graph_.add_node(
        NodeSpec{.op_type = op, .name = "n", .inputs = std::move(operands), .attributes = std::move(attributes)}, "v");
    infer_shapes(graph_);
    if (graph_.value(v).dtype == DType::kFloat32) made_.push_back(v);
    return v;
  }
  Dims dims(ValueId v) const { return graph_.value(v).shape.to_dims(); }

  // An input or a constant of these dimensions.
  ValueId operand(Dims dims, bool constant, double scale = 1) {
    Tensor t = random_tensor(DType::kFloat32, dims, random_);
    for (float& f : t.mutable_values<float>()) f *= static_cast<float>(scale);
    if (constant) return graph_.add_constant("k", std::move(t));
    const ValueId v = graph_.add_input("x", DType::kFloat32, Shape::of(t.dims()));
    inputs.push_back(std::move(t));
    return v;
  }
  ValueId scalar(float value) {
    return graph_.add_constant(
        "s", Tensor::of<float>(Dims(random_.below(3) == 0 ? random_.below(6) : 0, 1), std::vector<float>{value}));
  }
  bool often() { return random_.below(4) != 0; }

  ValueId linear() {
    const ValueId x = operand({2, 4, 3, 5}, false);
    switch (random_.below(7)) {
      case 0:
        return add("Conv", {x, operand({4, 4, 1, 1}, often()), operand({4}, often())});
      case 1:
        return add("Conv", {x, operand({4, 1, 3, 3}, often())},
                   {{"group", int64_t{4}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
      case 2: {
        const ValueId line = operand({2, 4, 6}, false);
        return add("Conv", {line, operand({4, 4, 3}, often())}, {{"pads", std::vector<int64_t>{1, 1}}});
      }
      case 3:
        return add("MatMul", {x, operand({5, 5}, often())});
      case 4: {
        const ValueId a = operand({3, 4}, false);
        return random_.below(2) ? add("MatMul", {a, operand({4, 4}, often())})
                                : add("Gemm", {a, operand({4, 4}, often()),
                                               operand({random_.below(2) ? 3 : 1, random_.below(2) ? 4 : 1}, often())});
      }
      case 5:
        return add("BatchNormalization",
                   {x, operand({4}, true), operand({4}, true), operand({4}, true),
                    graph_.add_constant("variance", Tensor::of<float>({4}, std::vector<float>{1, 2, 3, 4}))});
      default:
        return dequantised(quantiser(x));
    }
  }

  // Broadcasts with v: any axis may be 1, the rank less or one more.
  Dims beside(ValueId v) {
    Dims d = dims(v);
    for (int64_t& size : d)
      if (random_.below(2) == 0) size = 1;
    const uint64_t how = random_.below(4);
    if (how == 0) d.erase(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(random_.below(d.size() + 1)));
    if (how == 1 && d.size() < 6) d.insert(d.begin(), 1);
    return how == 2 ? dims(v) : d;
  }

  ValueId stage(ValueId v) {
    const size_t rank = dims(v).size();
    switch (random_.below(12)) {
      case 0:
        return add("Relu", {v});
      case 1: {
        const float low = static_cast<float>(random_.normal());
        return add("Clip", {v, graph_.add_constant("lo", Tensor::scalar(low)),
                            graph_.add_constant("hi", Tensor::scalar(static_cast<float>(random_.normal())))});
      }
      case 2:
        return add("Mul", {v, add("Sigmoid", {v})});
      case 3: {  // HardSwish written out
        const ValueId gate = add("Clip", {add("Add", {v, scalar(3)}), graph_.add_constant("lo", Tensor::scalar(0.0f)),
                                          graph_.add_constant("hi", Tensor::scalar(6.0f))});
        return random_.below(2) ? add("Div", {add("Mul", {v, gate}), scalar(6)})
                                : add("Mul", {v, add("Div", {gate, scalar(6)})});
      }
      case 4:
        return add("Add", {v, v});
      case 5:
        return quantised(v);
      case 6:
        return add("Conv", dims(v).size() == 4
                               ? std::vector<ValueId>{v, operand({dims(v)[1], dims(v)[1], 1, 1}, true)}
                               : std::vector<ValueId>{operand({1, 2, 2, 2}, false), operand({2, 2, 1, 1}, true)});
      case 7: {
        std::vector<int64_t> perm(rank);
        for (size_t i = 0; i < rank; ++i) perm[i] = static_cast<int64_t>(i);
        for (size_t i = rank; i > 1; --i) std::swap(perm[i - 1], perm[random_.below(i)]);
        return add("Transpose", {v}, {{"perm", perm}});
      }
      case 8:
        return add("Concat", {v, random_.below(2) ? v : operand(dims(v), often())}, {{"axis", int64_t{0}}});
      case 9: {
        std::vector<int64_t> pads(2 * rank, 0);
        for (size_t i = 2; i < rank; ++i) pads[i] = pads[i + rank] = static_cast<int64_t>(random_.below(2));
        const Tensor amounts = Tensor::of<int64_t>({static_cast<int64_t>(pads.size())}, pads);
        return add("Pad", {v, graph_.add_constant("pads", amounts)});
      }
      default: {
        static constexpr const char* kOps[] = {"Add", "Sub", "Mul", "Div", "Max", "Min"};
        const char* op = kOps[random_.below(std::size(kOps))];
        const uint64_t kind = random_.below(4);
        const ValueId other = kind == 0   ? scalar(static_cast<float>(random_.below(2)))  // 0 and 1 are neutral
                              : kind == 1 ? made_[random_.below(made_.size())]
                                          : operand(beside(v), random_.below(3) != 0);
        if (!broadcasts(dims(v), dims(other))) return v;
        const bool divides = op == kOps[3];
        return random_.below(2) && !divides ? add(op, {other, v}) : add(op, {v, divides ? scalar(2) : other});
      }
    }
  }

  static bool broadcasts(const Dims& a, const Dims& b) {
    for (size_t i = 1; i <= std::min(a.size(), b.size()); ++i)
      if (a[a.size() - i] != b[b.size() - i] && a[a.size() - i] != 1 && b[b.size() - i] != 1) return false;
    return std::max(a.size(), b.size()) <= 6;
  }

  ValueId quantiser(ValueId v) {
    scale_ = graph_.add_constant("scale", Tensor::scalar(0.01f * static_cast<float>(1 + random_.below(8))));
    zero_point_ =
        graph_.add_constant("zero_point", random_.below(2) ? Tensor::scalar(uint8_t{100}) : Tensor::scalar(int8_t{0}));
    return add("QuantizeLinear", {v, scale_, zero_point_});
  }
  ValueId dequantised(ValueId codes) { return add("DequantizeLinear", {codes, scale_, zero_point_}); }

  // Through codes and, where an image is there, an integer convolution with a bias in reals.
  ValueId quantised(ValueId v) {
    const ValueId x = dequantised(quantiser(v));
    if (dims(x).size() != 4 || random_.below(2) == 0) return x;
    const int64_t channels = dims(x)[1];
    const ValueId codes = graph_.add_constant("w", random_tensor(DType::kInt8, {3, channels, 1, 1}, random_));
    const ValueId step = graph_.add_constant("ws", Tensor::scalar(0.01f));
    const ValueId w = add("DequantizeLinear", {codes, step});
    return add("Conv", {x, w, operand({3}, true)});
  }

  Random random_;
  Graph graph_;
  std::vector<ValueId> made_;  ///< the floats
  ValueId scale_ = kNoValue, zero_point_ = kNoValue;
};

// Floats close; a code may round to its neighbour, and what is computed from it differs by that step.
bool is_close(const Tensor& actual, const Tensor& expected, bool quantises) {
  if (!quantises) return difference(actual, expected).empty();
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims()) return false;
  const std::vector<double> a = to_doubles(actual), e = to_doubles(expected);
  int64_t apart = 0;
  double largest = 1;
  for (double v : e) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < a.size(); ++i) apart += !(std::abs(a[i] - e[i]) <= 1e-4 * largest);
  return apart * 20 <= static_cast<int64_t>(a.size());
}

TEST(Constants, AnyOperandOfAChainMayBeOneOfAnyShape) {
  const std::string path = testing::TempDir() + "constants.plan";
  for (uint64_t seed = 0; seed < 600; ++seed) {
    ChainMaker maker(seed);
    const Graph graph = maker.make();
    const std::vector<Tensor> expected = evaluate(graph, maker.inputs);
    bool quantises = false;
    for (NodeId id : graph.topological_order()) quantises |= graph.node(id).is("QuantizeLinear");
    const auto check = [&](const std::vector<Tensor>& actual, const char* how) {
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(is_close(actual[i], expected[i], quantises))
            << "seed " << seed << ", " << how << ", output " << i << ": " << difference(actual[i], expected[i]) << "\n"
            << (HasFailure() ? to_text(graph, {.elide = true}) : "");
    };
    try {
      Graph standard = graph, fused = graph;
      run_passes(standard, {.standard_onnx = true});
      check(evaluate(parse_onnx(serialize_onnx(standard)), maker.inputs), "optimised");
      run_passes(fused);
      check(evaluate(fused, maker.inputs), "all passes");
      const auto plan = Plan::build(graph, {.batch = maker.inputs[0].dims()[0], .choice_seed = seed});
      check(run_plan(plan, maker.inputs), "plan");
      plan->save(path);
      check(run_plan(Plan::open(path), maker.inputs), "opened plan");
      const auto whole =
          Plan::build(graph, {.batch = maker.inputs[0].dims()[0], .optimize = false, .choice_seed = seed});
      check(run_plan(whole, maker.inputs), "not optimised");
    } catch (const Error& error) {
      ADD_FAILURE() << "seed " << seed << ": " << error.what() << "\n" << to_text(graph, {.elide = true});
    }
  }
}

TEST(Constants, QuantisedWeightsMayHaveNoElements) {
  const Graph graph = parse_text(R"(graph "" ir 8 opset {"": 13} {
  input %x : u8[2,0]
  const %s : f32[] = {0.5}
  const %z : u8[] = {7}
  const %w : i8[0,3] = {}
  const %wz : i8[] = {0}
  %y : u8[2,3] = QLinearMatMul(%x, %s, %z, %w, %s, %wz, %s, %z)
  output %y
})");
  const std::vector<Tensor> inputs = {Tensor(DType::kUint8, {2, 0})};
  EXPECT_TRUE(
      run_plan(Plan::build(graph, {.batch = 2, .tune = false}), inputs)[0].identical(evaluate(graph, inputs)[0]));
}

}  // namespace
}  // namespace slipway
