// NaN, infinities, negative zeros, denormals and huge numbers come out of convolutions, products and pools
// as out of the reference, through every candidate, in whole plans, and with no more guards than proofs need. (Sums
// that overflow on the way are another matter: the reference's are in double precision.)
#include <algorithm>
#include <limits>

#include "engine/engine_testing.h"
#include "engine/kernels/guarded.h"
#include "engine/kernels/magnitude.h"
#include "engine/magnitudes.h"

namespace slipway {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kSpecial[] = {
    std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, -0.0F, 1e-42F, 1e32F, -1e32F};

// A few elements of one kind each: a tensor's largest number sets how closely the others are compared.
void sprinkle(Tensor& t, float value, Random& random) {
  const std::span<float> v = t.mutable_values<float>();
  const size_t count = std::abs(value) > 1e30F && std::isfinite(value) ? 1 : 1 + random.below(3);
  for (size_t i = 0; i < count; ++i) v[random.below(v.size())] = value;
}

// NaN where NaN is, the same infinities, finite numbers up to the rounding of sums that bounded activations then cut.
std::string special_difference(const Tensor& actual, const Tensor& expected) {
  const std::span<const float> a = actual.values<float>(), e = expected.values<float>();
  float largest = 50;
  for (float v : e)
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < e.size(); ++i) {
    const bool same = a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]));
    if (!same && !(std::abs(a[i] - e[i]) <= 1e-4F * std::abs(e[i]) + 2e-6F * largest))
      return fmt::format("element {} is {} instead of {}", i, a[i], e[i]);
  }
  return "";
}

std::string activated_text(const std::string& activation, int channels, int size) {
  return fmt::format(R"(graph "activated" ir 8 opset {{"": 14}} {{
  const %lo : f32[] = {{-0.5}}
  const %hi : f32[] = {{1.5}}
  input %x : f32[1,{0},{1},{1}]
  input %w_a : f32[{0},{0},3,3]
  input %w_ab : f32[{0}]
  input %w_d : f32[{0},1,3,3]
  input %w_p : f32[7,{0},1,1]
  input %w_f : f32[9,7]
  input %w_fb : f32[9]
  %a0 = Conv(%x, %w_a, %w_ab) {{pads = [1, 1, 1, 1]}} "conv"
  %a = {2} "activation a"
  %d0 = Conv(%a, %w_d) {{pads = [1, 1, 1, 1], group = {0}}} "depthwise"
  %s0 = Add(%d0, %a) "add"
  %s = {3} "activation s"
  %m = MaxPool(%s) {{kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]}} "max"
  %v = AveragePool(%m) {{kernel_shape = [2, 2], pads = [0, 0, 1, 1]}} "average"
  %p = Conv(%v, %w_p) "linear"
  %g = GlobalMaxPool(%p) "global"
  %u = Flatten(%g) "flatten"
  %f0 = Gemm(%u, %w_f, %w_fb) {{transB = 1}} "head"
  %f = {4} "activation f"
  output %a, %s, %m, %v, %p, %f
}})",
                     channels, size, fmt::format(fmt::runtime(activation), "%a0"),
                     fmt::format(fmt::runtime(activation), "%s0"), fmt::format(fmt::runtime(activation), "%f0"));
}

constexpr const char* kActivations[] = {
    "Relu({})", "Clip({}, %lo, %hi)", "LeakyRelu({}) {{alpha = 0.2}}", "Sigmoid({})",
    "Tanh({})", "HardSwish({})",      "Elu({}) {{alpha = 0.7}}",       "HardSigmoid({}) {{alpha = 0.3, beta = 0.4}}"};

TEST(SpecialValues, ComeOutOfPlansAsOutOfTheReference) {
  constexpr uint64_t kInputSeed = 20241129;
  Random random(kInputSeed);
  for (const char* activation : kActivations)
    for (const int channels : {5, 16})
      for (const float value : kSpecial) {
        const Graph graph = random_graph(activated_text(activation, channels, 7), random);
        std::vector<Tensor> inputs = random_inputs(graph, random);
        sprinkle(inputs[0], value, random);
        const std::vector<Tensor> expected = evaluate(graph, inputs);
        for (int round = 0; round < 3; ++round) {
          const uint64_t choice = random.below(1 << 30);
          SCOPED_TRACE(fmt::format("seed {} {} channels {} value {} choice {}", kInputSeed, activation, channels, value,
                                   choice));
          const auto plan = Plan::build(graph, {.choice_seed = choice});
          Session session(plan);
          for (int run = 0; run < 2; ++run) {
            const std::vector<Tensor> actual = session.run(inputs);
            for (size_t i = 0; i < expected.size(); ++i)
              EXPECT_EQ(special_difference(actual[i], expected[i]), "") << "output " << i;
          }
        }
      }
}

std::string chain_text(int layers) {
  std::string body, weights;
  for (int i = 0; i < layers; ++i) {
    weights += fmt::format("  input %w_{} : f32[8,8,3,3]\n", i);
    body += fmt::format("  %c{0} = Conv(%r{1}, %w_{0}) {{pads = [1, 1, 1, 1]}}\n  %r{0} = Relu(%c{0})\n", i,
                        i == 0 ? "x" : std::to_string(i - 1));
  }
  return fmt::format("graph \"chain\" ir 8 opset {{\"\": 13}} {{\n  input %rx : f32[1,8,5,5]\n{}{}  output %r{}\n}}",
                     weights, body, layers - 1);
}

TEST(SpecialValues, OneGuardCarriesOverManyLayers) {
  Random random(1);
  int guards = 0, steps = 0;
  const Graph graph = random_graph(chain_text(40), random);
  const auto plan = Plan::build(graph, {.tune = false});
  for (const StepInfo& step : plan->steps()) {
    guards += step.guards;
    steps += step.op == "slipway.Conv";
    EXPECT_FALSE(step.faithful);
  }
  EXPECT_EQ(steps, 40);
  EXPECT_EQ(plan->steps()[0].guards + plan->steps()[1].guards, 1);  // a change of layout may come first
  EXPECT_GE(guards, 2);
  EXPECT_LE(guards, 6);
  // What overflows between two guards is found by the second.
  for (const float value : {1.0F, 1e9F, 1e25F, kInfinity}) {
    std::vector<Tensor> inputs = random_inputs(graph, random);
    inputs[0].mutable_values<float>()[7] = value;
    const Tensor actual = run_plan(plan, inputs)[0], expected = evaluate(graph, inputs)[0];
    for (int64_t i = 0; i < expected.elements(); ++i) {  // forty layers leave little of the rounding but its kind
      const float a = actual.values<float>()[static_cast<size_t>(i)],
                  e = expected.values<float>()[static_cast<size_t>(i)];
      EXPECT_EQ(std::isnan(a), std::isnan(e)) << value << " " << i;
      EXPECT_EQ(std::isinf(a), std::isinf(e)) << value << " " << i;
    }
  }
}

TEST(SpecialValues, WeightsThatProveNothingAreAlwaysRunFaithfully) {
  Random random(2);
  Graph graph = random_graph(chain_text(2), random);
  for (const float weight : {std::numeric_limits<float>::quiet_NaN(), 1e30F}) {
    for (ValueId id = 0; id < graph.value_limit(); ++id)
      if (graph.value(id).name == "w_1_constant") {
        Tensor t(DType::kFloat32, {8, 8, 3, 3});
        std::fill(t.mutable_values<float>().begin(), t.mutable_values<float>().end(), 0.5F);
        t.mutable_values<float>()[0] = weight;
        graph.replace_uses(id, graph.add_constant("heavy", std::move(t)));
        break;
      }
    const auto plan = Plan::build(graph, {.tune = false});
    const std::vector<StepInfo> steps = plan->steps();
    EXPECT_TRUE(std::any_of(steps.begin(), steps.end(), [](const StepInfo& step) {
      return step.faithful || step.tactic == "reference";  // the reference takes weights that are not finite
    }));
    const std::vector<Tensor> inputs = random_inputs(graph, random);
    EXPECT_EQ(special_difference(run_plan(plan, inputs)[0], evaluate(graph, inputs)[0]), "");
  }
}

TEST(SpecialValues, AMeanOfNothingIsBoundedByNothing) {
  const Graph graph = parse_text(R"(graph "g" ir 8 opset {"": 20} {
  const %x : f32[1,1,0,1] = {}
  const %w_g : f32[1,1] = {1}
  %p = GlobalAveragePool(%x)
  %f = Flatten(%p)
  %g = Gemm(%f, %w_g)
  %y = Relu(%g)
  output %p, %y
})");
  for (const bool optimize : {true, false}) {
    const auto plan = Plan::build(graph, {.tune = false, .optimize = optimize});
    for (const Tensor& y : run_plan(plan, {})) EXPECT_TRUE(std::isnan(to_doubles(y)[0])) << optimize;
  }
}

// The bound holds for whatever is inside it.
TEST(SpecialValues, BoundsHold) {
  constexpr uint64_t kInputSeed = 3;
  Random random(kInputSeed);
  const std::string constants = "  const %lo : f32[] = {0.5}\n  const %hi : f32[] = {6}\n  const %d : f32[] = {0.25}\n";
  int known = 0;
  for (const char* node : {"Relu(%x)",
                           "LeakyRelu(%x) {alpha = 3.0}",
                           "Clip(%x, %lo, %hi)",
                           "Clip(%x, _, %lo)",
                           "Elu(%x) {alpha = 4.0}",
                           "Sigmoid(%x)",
                           "Tanh(%x)",
                           "HardSwish(%x)",
                           "Softmax(%x)",
                           "Add(%x, %z)",
                           "Sub(%x, %z)",
                           "Mul(%x, %z)",
                           "Div(%x, %d)",
                           "Max(%x, %z)",
                           "Concat(%x, %z) {axis = 1}",
                           "MaxPool(%x) {kernel_shape = [2, 2]}",
                           "AveragePool(%x) {kernel_shape = [2, 2]}",
                           "GlobalAveragePool(%x)",
                           "Conv(%x, %w_k, %w_b) {group = 2}",
                           "MatMul(%x, %w_m)",
                           "MatMul(%x, %z)",
                           "Transpose(%x) {perm = [3, 1, 0, 2]}",
                           "Erf(%x)"}) {
    const Graph graph = random_graph(
        fmt::format("graph \"\" ir 8 opset {{\"\": 14}} {{\n{}  input %x : f32[1,4,5,5]\n  input %z : f32[1,4,5,5]\n  "
                    "input %w_k : f32[6,2,2,2]\n  input %w_b : f32[6]\n  input %w_m : f32[5,3]\n  %y = {}\n  output "
                    "%y\n}}",
                    constants, node),
        random);
    for (const float magnitude : {0.01F, 1.0F, 1000.0F}) {
      std::vector<Tensor> inputs = random_inputs(graph, random);
      for (Tensor& t : inputs)
        for (float& v : t.mutable_values<float>()) v = random.below(2) != 0 ? magnitude : -magnitude;
      const Node& n = graph.node(graph.topological_order().at(0));
      std::vector<double> bounds;
      for (ValueId id : n.inputs)
        bounds.push_back(id == kNoValue                  ? 0
                         : graph.value(id).is_constant() ? constant_magnitude(*graph.constant(id))
                                                         : magnitude);
      const Magnitude m = node_magnitude(graph, n, bounds);
      known += m.result < kProvenMagnitude;
      const double largest = constant_magnitude(evaluate(graph, inputs)[0]);
      EXPECT_LE(largest, m.result * (1 + 1e-6)) << node << " seed " << kInputSeed << " magnitude " << magnitude;
    }
  }
  EXPECT_GE(known, 60) << "most of these have a rule";
}

TEST(SpecialValues, MagnitudesAreMeasuredToTheLastElement) {
  Random random(4);
  for (const int64_t count : {1, 7, 8, 31, 32, 33, 100, 1000}) {
    Guarded memory(static_cast<size_t>(count) * sizeof(float));
    auto* x = memory.as<float>();
    for (int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(random.normal());
    EXPECT_TRUE(all_within(x, count, kGuardMagnitude, 1));
    for (const float value : kSpecial) {
      const auto at = static_cast<int64_t>(random.below(static_cast<uint64_t>(count)));
      const float before = x[at];
      x[at] = value;
      EXPECT_EQ(all_within(x, count, kGuardMagnitude, 1), std::abs(value) <= kGuardMagnitude) << value << " " << count;
      x[at] = before;
    }
  }
  std::vector<float> large(1 << 20, kGuardMagnitude);
  EXPECT_TRUE(all_within(large.data(), 1 << 20, kGuardMagnitude, 4));
  large[(1 << 20) - 1] = std::nextafter(kGuardMagnitude, kInfinity);
  EXPECT_FALSE(all_within(large.data(), 1 << 20, kGuardMagnitude, 4));
}

}  // namespace
}  // namespace slipway
