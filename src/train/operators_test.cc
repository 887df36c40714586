// Every operator against the reference evaluation, in float, and its gradients against central differences, in double.
#include "train/operators.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "quantize/ptq/quantize_testing.h"
#include "train/tensors.h"
#include "train/trainable_graph.h"

namespace slipway {
namespace {

using Tensors = std::vector<at::Tensor>;

// A float result may differ from the reference, which sums in double, by so much of the largest value.
constexpr double kFloatBound = 1e-5;
constexpr double kStep = 1e-5, kGradientBound = 1e-6;
constexpr int kProbes = 10;  // elements of each leaf whose gradient is checked

struct Row {
  int opset;
  const char* statements;
  const char* frozen = "";  // constants that get no gradient, each between spaces
};

Tensors random_inputs(const Graph& graph, Random& random) {
  Tensors inputs;
  for (const ValueId id : graph.inputs()) {
    const at::Tensor x = at::empty(graph.value(id).shape.to_dims(), at::kDouble);
    for (int64_t i = 0; i < x.numel(); ++i) x.data_ptr<double>()[i] = random.normal();
    inputs.push_back(x);
  }
  return inputs;
}

void expect_forward(const Graph& graph, const Tensors& inputs) {
  Tensors floats;
  std::vector<Tensor> given;
  for (const at::Tensor& x : inputs) {
    floats.push_back(x.to(at::kFloat));
    given.push_back(from_torch(floats.back()));
  }
  const std::vector<Tensor> expected = evaluate(graph, given);
  const Tensors got = TrainableGraph(graph).forward(floats);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const at::Tensor wanted = to_torch(expected[i]);
    ASSERT_EQ(got[i].sizes(), wanted.sizes()) << "output " << i;
    ASSERT_EQ(got[i].scalar_type(), wanted.scalar_type()) << "output " << i;
    EXPECT_LE(at::abs(got[i] - wanted).max().item<double>(), kFloatBound * (1 + at::abs(wanted).max().item<double>()))
        << "output " << i;
  }
}

// The outputs, each element weighed at random, as one number.
at::Tensor loss_of(const TrainableGraph& graph, const Tensors& inputs) {
  at::Tensor loss = at::zeros({}, at::kDouble);
  Random random(3);
  for (const at::Tensor& y : graph.forward(inputs)) {
    if (!y.is_floating_point()) continue;
    at::Tensor weights = at::empty(y.sizes(), at::kDouble);
    for (int64_t i = 0; i < y.numel(); ++i) weights.data_ptr<double>()[i] = random.normal();
    loss = loss + (y.to(at::kDouble) * weights).sum();
  }
  return loss;
}

void expect_gradient(const TrainableGraph& graph, const Tensors& inputs, const at::Tensor& leaf,
                     const std::string& name) {
  ASSERT_TRUE(leaf.grad().defined()) << name;
  ASSERT_EQ(leaf.grad().sizes(), leaf.sizes()) << name;
  const at::Tensor gradient = leaf.grad().contiguous(), values = leaf.detach();
  Random random(7);
  const at::NoGradGuard no_grad;
  for (int probe = 0; probe < kProbes && leaf.numel() > 0; ++probe) {
    const auto at = static_cast<int64_t>(random.below(static_cast<uint64_t>(leaf.numel())));
    double& value = values.data_ptr<double>()[at];
    const double kept = value;
    value = kept + kStep;
    const double above = loss_of(graph, inputs).item<double>();
    value = kept - kStep;
    const double below = loss_of(graph, inputs).item<double>();
    value = kept;
    const double expected = (above - below) / (2 * kStep), got = gradient.data_ptr<double>()[at];
    EXPECT_NEAR(got, expected, kGradientBound * (1 + std::abs(expected))) << name << " element " << at;
  }
}

void check(const Row& row) {
  SCOPED_TRACE(row.statements);
  const Graph graph = graph_of(row.statements, row.opset);
  Random random(11);
  Tensors inputs = random_inputs(graph, random);
  expect_forward(graph, inputs);
  TrainableGraph trainable(graph);
  std::map<std::string, at::Tensor> leaves;
  for (size_t i = 0; i < inputs.size(); ++i) leaves[graph.value(graph.inputs()[i]).name] = inputs[i];
  for (auto& [id, constant] : trainable.constants()) {
    if (!constant.is_floating_point()) continue;
    constant = constant.to(at::kDouble);
    leaves[graph.value(id).name] = constant;
  }
  for (auto& [name, leaf] : leaves) leaf.requires_grad_(true);
  loss_of(trainable, inputs).backward();
  for (const auto& [name, leaf] : leaves) {
    if (std::string_view(row.frozen).find(" " + name + " ") == std::string_view::npos)
      expect_gradient(trainable, inputs, leaf, name);
    else
      EXPECT_FALSE(leaf.grad().defined()) << name;
  }
}

/// Of one input, [1,4,4,4].
ErrorCode refusal_of(const std::string& statements, int opset, std::string& message) {
  try {
    TrainableGraph(graph_of(statements, opset)).forward({at::ones({1, 4, 4, 4})});
  } catch (const Error& error) {
    message = error.what();
    return error.code();
  }
  ADD_FAILURE() << "Not refused: " << statements;
  return ErrorCode::kInternal;
}

TEST(Operators, Arithmetic) {
  for (const Row& row : {
           Row{13, R"(
  input %x : f32[2,3,4]
  input %y : f32[3,1]
  const %c : f32[4] = {0.5, -1.5, 2, 3}
  %a = Add(%x, %y)
  %b = Sub(%y, %x)
  %d = Mul(%x, %c)
  %e = Div(%y, %c)
  %f = Neg(%x)
  output %a, %b, %d, %e, %f)"},
           Row{13, R"(
  input %x : f32[3,5]
  const %two : f32[] = {2}
  const %third : f32[1] = {-0.3333}
  const %ints : i64[5] = {1, 2, 3, 0, -1}
  const %powers : f32[5] = {0.5, 1.5, 2, 3, -1}
  const %one : f32[] = {1}
  %abs = Abs(%x)
  %p = Add(%abs, %one)
  %a = Pow(%x, %two)
  %b = Pow(%p, %third)
  %c = Pow(%x, %ints)
  %d = Pow(%p, %powers)
  %e = Sqrt(%p)
  %f = Exp(%x)
  %g = Log(%p)
  %h = Reciprocal(%p)
  output %a, %b, %c, %d, %e, %f, %g, %h)",
               " two third "},
           Row{13, R"(
  input %x : f32[2,3]
  input %y : f32[3]
  input %z : f32[2,1]
  %a = Min(%x, %y, %z)
  %b = Max(%x, %y)
  %c = Sum(%x, %y, %z)
  %d = Mean(%x, %y, %z)
  %e = Max(%x)
  %less = Less(%x, %y)
  %f = Where(%less, %x, %z)
  output %a, %b, %c, %d, %e, %f)"},
           Row{15, R"(
  input %x : f32[7]
  %a = Sin(%x)
  %b = Cos(%x)
  %c = Atan(%x)
  %d = Sinh(%x)
  %e = Cosh(%x)
  %f = Identity(%x)
  %wide = Cast(%x) {to = 11}
  %g = CastLike(%wide, %x)
  output %a, %b, %c, %d, %e, %f, %g)"},
       })
    check(row);
}

TEST(Operators, CastBetweenFloats) {
  const Graph graph = graph_of(R"(
  input %x : f32[5]
  %wide = Cast(%x) {to = 11}
  %half = Cast(%x) {to = 10}
  output %wide, %half)",
                               13);
  at::Tensor x = at::tensor({1.0f, -2.5f, 0.1f, 3e4f, 0.0f});
  expect_forward(graph, {x.to(at::kDouble)});
  x.requires_grad_(true);
  const Tensors y = TrainableGraph(graph).forward({x});
  (y[0].sum() * 2 + y[1].to(at::kDouble).sum()).backward();
  EXPECT_TRUE(at::equal(x.grad(), at::full({5}, 3.0f)));
}

TEST(Operators, Activations) {
  for (const Row& row : {
           Row{20, R"(
  input %x : f32[4,5]
  %a = Relu(%x)
  %b = LeakyRelu(%x) {alpha = 0.2}
  %c = Elu(%x) {alpha = 0.7}
  %d = Selu(%x)
  %e = Celu(%x) {alpha = 0.6}
  %f = Sigmoid(%x)
  %g = HardSigmoid(%x)
  %h = HardSigmoid(%x) {alpha = 0.16666667, beta = 0.5}
  %i = HardSwish(%x)
  %j = Tanh(%x)
  %k = Erf(%x)
  %l = Gelu(%x)
  %m = Gelu(%x) {approximate = "tanh"}
  %n = Softplus(%x)
  %o = Softsign(%x)
  %p = Mish(%x)
  %q = ThresholdedRelu(%x) {alpha = 0.4}
  output %a, %b, %c, %d, %e, %f, %g, %h, %i, %j, %k, %l, %m, %n, %o, %p, %q)"},
           Row{6, R"(
  input %x : f32[3,4]
  %a = Clip(%x) {min = -0.5, max = 0.75}
  %b = Clip(%x) {max = 0.25}
  %c = Clip(%x)
  output %a, %b, %c)"},
           Row{13, R"(
  input %x : f32[3,4]
  const %low : f32[] = {-0.25}
  const %high : f32[] = {0.5}
  %a = Clip(%x, %low, %high)
  %b = Clip(%x, _, %high)
  %c = Clip(%x, %low)
  output %a, %b, %c)",
               " low high "},
           Row{16, R"(
  input %x : f32[2,3,4,5]
  input %one : f32[1]
  input %channel : f32[3,1,1]
  input %last : f32[5]
  input %all : f32[3,4,5]
  %a = PRelu(%x, %one)
  %b = PRelu(%x, %channel)
  %c = PRelu(%x, %last)
  %d = PRelu(%x, %all)
  output %a, %b, %c, %d)"},
           Row{11, R"(
  input %x : f32[2,3,4]
  %a = Softmax(%x)
  %b = Softmax(%x) {axis = 2}
  %c = LogSoftmax(%x) {axis = -2}
  %d = Softmax(%x) {axis = 0}
  output %a, %b, %c, %d)"},
           Row{13, R"(
  input %x : f32[2,3,4]
  const %ratio : f32[] = {0.5}
  %a = Softmax(%x)
  %b = LogSoftmax(%x) {axis = 1}
  %c = Dropout(%x, %ratio)
  output %a, %b, %c)",
               " ratio "},
       })
    check(row);
}

TEST(Operators, Convolution) {
  for (const Row& row : {
           Row{13, R"(
  input %x : f32[2,4,9,7]
  input %w : f32[6,2,3,2]
  input %b : f32[6]
  %a = Conv(%x, %w, %b) {group = 2, strides = [2, 1], pads = [1, 0, 1, 0]}
  %c = Conv(%x, %w) {group = 2, pads = [0, 1, 2, 0], dilations = [2, 3]}
  %d = Conv(%x, %w) {group = 2, auto_pad = "SAME_UPPER", strides = [2, 2]}
  %e = Conv(%x, %w, %b) {group = 2, auto_pad = "SAME_LOWER", strides = [2, 2]}
  %f = Conv(%x, %w) {group = 2, auto_pad = "VALID", kernel_shape = [3, 2]}
  output %a, %c, %d, %e, %f)"},
           Row{13, R"(
  input %x : f32[2,3,6,6]
  input %w : f32[6,1,3,3]
  input %x1 : f32[2,3,9]
  input %w1 : f32[4,3,3]
  input %x3 : f32[1,2,4,5,3]
  input %w3 : f32[2,2,2,2,2]
  %a = Conv(%x, %w) {group = 3, pads = [1, 1, 1, 1]}
  %b = Conv(%x, %w) {group = 3, pads = [0, 0, 1, 1], strides = [2, 2]}
  %c = Conv(%x1, %w1) {pads = [2, 1], strides = [2]}
  %d = Conv(%x3, %w3) {pads = [1, 0, 0, 0, 1, 0]}
  output %a, %b, %c, %d)"},
           Row{13, R"(
  input %x : f32[2,4,5,3]
  input %w : f32[4,3,3,2]
  input %b : f32[6]
  input %x1 : f32[1,2,4]
  input %w1 : f32[2,3,3]
  %a = ConvTranspose(%x, %w, %b) {group = 2, strides = [2, 3], pads = [1, 0, 1, 0]}
  %c = ConvTranspose(%x, %w) {group = 2, strides = [2, 2], pads = [0, 1, 1, 0]}
  %d = ConvTranspose(%x, %w) {group = 2, strides = [2, 2], output_padding = [1, 1], dilations = [1, 2]}
  %e = ConvTranspose(%x, %w) {group = 2, strides = [2, 2], auto_pad = "SAME_UPPER"}
  %f = ConvTranspose(%x, %w) {group = 2, strides = [2, 2], auto_pad = "SAME_LOWER"}
  %g = ConvTranspose(%x1, %w1) {strides = [2], output_shape = [8]}
  output %a, %c, %d, %e, %f, %g)"},
       })
    check(row);
}

TEST(Operators, Pooling) {
  for (const Row& row : {
           Row{12, R"(
  input %x : f32[2,3,7,6]
  %a = MaxPool(%x) {kernel_shape = [3, 2], strides = [2, 2]}
  %b = MaxPool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1}
  %c = MaxPool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]}
  %d = MaxPool(%x) {kernel_shape = [2, 3], strides = [2, 2], auto_pad = "SAME_UPPER"}
  %e = MaxPool(%x) {kernel_shape = [2, 3], auto_pad = "SAME_LOWER", dilations = [2, 1]}
  %f = MaxPool(%x) {kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID"}
  %g = MaxPool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [2, 0, 2, 0]}
  output %a, %b, %c, %d, %e, %f, %g)"},
           Row{19, R"(
  input %x : f32[2,3,7,6]
  %a = AveragePool(%x) {kernel_shape = [3, 2], strides = [2, 2]}
  %b = AveragePool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]}
  %c = AveragePool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1}
  %d = AveragePool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1, ceil_mode = 1}
  %e = AveragePool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]}
  %f = AveragePool(%x) {kernel_shape = [3, 3], strides = [2, 2], pads = [0, 1, 2, 0], count_include_pad = 1, ceil_mode = 1}
  %g = AveragePool(%x) {kernel_shape = [2, 2], auto_pad = "SAME_UPPER"}
  %h = AveragePool(%x) {kernel_shape = [3, 2], auto_pad = "SAME_LOWER", count_include_pad = 1, strides = [2, 1]}
  %i = AveragePool(%x) {kernel_shape = [2, 2], dilations = [3, 2], pads = [1, 1, 1, 1]}
  output %a, %b, %c, %d, %e, %f, %g, %h, %i)"},
           Row{13, R"(
  input %x : f32[2,3,9]
  input %y : f32[1,2,4,5,4]
  %a = MaxPool(%x) {kernel_shape = [3], strides = [2], pads = [1, 0]}
  %b = AveragePool(%x) {kernel_shape = [3], strides = [2], pads = [1, 1]}
  %c = AveragePool(%x) {kernel_shape = [4], strides = [2], pads = [0, 1]}
  %d = MaxPool(%y) {kernel_shape = [2, 3, 2], strides = [2, 2, 2]}
  %e = AveragePool(%y) {kernel_shape = [2, 3, 2], pads = [0, 1, 1, 0, 1, 1]}
  output %a, %b, %c, %d, %e)"},
           Row{13, R"(
  input %x : f32[2,3,4,5]
  %a = GlobalAveragePool(%x)
  %b = GlobalMaxPool(%x)
  %c = GlobalLpPool(%x)
  %d = LpPool(%x) {kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 1]}
  %e = LpPool(%x) {kernel_shape = [2, 3], p = 3}
  output %a, %b, %c, %d, %e)"},
       })
    check(row);
}

TEST(Operators, Products) {
  for (const Row& row : {
           Row{13, R"(
  input %a : f32[3,4]
  input %at : f32[4,3]
  input %b : f32[4,5]
  input %bt : f32[5,4]
  input %row : f32[5]
  input %column : f32[3,1]
  input %one : f32[]
  %c = Gemm(%a, %b, %row)
  %d = Gemm(%a, %bt, %row) {transB = 1, alpha = 0.5, beta = 2.0}
  %e = Gemm(%at, %b, %column) {transA = 1, beta = -1.0}
  %f = Gemm(%at, %bt) {transA = 1, transB = 1, alpha = 1.5}
  %g = Gemm(%a, %b, %one)
  %h = Gemm(%a, %b)
  output %c, %d, %e, %f, %g, %h)"},
           Row{13, R"(
  input %a : f32[2,1,3,4]
  input %b : f32[5,4,2]
  input %v : f32[4]
  input %m : f32[4,3]
  %c = MatMul(%a, %b)
  %d = MatMul(%a, %v)
  %e = MatMul(%v, %b)
  %f = MatMul(%v, %v)
  %g = MatMul(%a, %m)
  output %c, %d, %e, %f, %g)"},
       })
    check(row);
}

TEST(Operators, Normalization) {
  for (const Row& row : {
           Row{13, R"(
  input %x : f32[2,3,4,5]
  input %s : f32[3]
  input %b : f32[3]
  const %mean : f32[3] = {0.5, -1, 0.25}
  const %variance : f32[3] = {0.5, 2, 1}
  %a = BatchNormalization(%x, %s, %b, %mean, %variance) {epsilon = 0.01}
  %c = InstanceNormalization(%x, %s, %b) {epsilon = 0.001}
  output %a, %c)"},
           Row{7, R"(
  input %x : f32[3,2,2]
  input %s : f32[2,2]
  input %b : f32[2,2]
  const %mean : f32[2,2] = {0.5, -1, 0.25, 1}
  const %variance : f32[2,2] = {0.5, 2, 1, 1}
  %a = BatchNormalization(%x, %s, %b, %mean, %variance) {spatial = 0}
  output %a)"},
           Row{17, R"(
  input %x : f32[2,3,4,5]
  input %s : f32[5]
  input %s2 : f32[4,5]
  input %s3 : f32[4,1]
  input %b : f32[5]
  %a, %mean, %inverse = LayerNormalization(%x, %s, %b)
  %c = LayerNormalization(%x, %s2) {axis = 2, epsilon = 0.1}
  %d = LayerNormalization(%x, %s2, %s3) {axis = 2}
  %e = LayerNormalization(%x, %s3, %b) {axis = -2}
  output %a, %mean, %inverse, %c, %d, %e)"},
           Row{21, R"(
  input %x : f32[2,6,4]
  input %s : f32[6]
  input %b : f32[6]
  %a = GroupNormalization(%x, %s, %b) {num_groups = 3}
  output %a)"},
           Row{18, R"(
  input %x : f32[2,6,4]
  input %s : f32[2]
  input %b : f32[2]
  %a = GroupNormalization(%x, %s, %b) {num_groups = 2}
  output %a)"},
           Row{13, R"(
  input %x : f32[2,7,3,2]
  %a = LRN(%x) {size = 5, alpha = 0.5, beta = 0.6, bias = 2.0}
  %b = LRN(%x) {size = 4, alpha = 0.5}
  %c = LRN(%x) {size = 1000, alpha = 9.0}
  output %a, %b, %c)"},
       })
    check(row);
}

TEST(Operators, Reductions) {
  for (const Row& row : {
           Row{13, R"(
  input %x : f32[2,3,4]
  const %axes : i64[2] = {-1, 0}
  %a = ReduceSum(%x, %axes) {keepdims = 0}
  %b = ReduceSum(%x) {noop_with_empty_axes = 1}
  %c = ReduceSum(%x)
  %d = ReduceMean(%x) {axes = [1, 2], keepdims = 0}
  %e = ReduceMax(%x) {axes = [1]}
  %f = ReduceMin(%x) {axes = [-2], keepdims = 0}
  %g = ReduceProd(%x) {axes = [0, 2], keepdims = 0}
  %h = ReduceL1(%x) {axes = [1]}
  %i = ReduceL2(%x) {axes = [1, 0]}
  %j = ReduceLogSumExp(%x) {axes = [2]}
  %k = ReduceSumSquare(%x) {axes = [2]}
  %l = ReduceMean(%x) {keepdims = 0}
  %m = ReduceProd(%x) {axes = [1]}
  output %a, %b, %c, %d, %e, %f, %g, %h, %i, %j, %k, %l, %m)"},
           Row{18, R"(
  input %x : f32[2,3,4]
  const %axes : i64[1] = {1}
  %p = Exp(%x)
  %a = ReduceMean(%x, %axes)
  %b = ReduceMax(%x, %axes) {keepdims = 0}
  %c = ReduceL2(%x)
  %d = ReduceLogSum(%p, %axes)
  output %a, %b, %c, %d)"},
       })
    check(row);
}

TEST(Operators, Movement) {
  for (const Row& row : {
           Row{13, R"(
  input %x : f32[2,3,4]
  input %y : f32[2,1,4]
  const %sizes : i64[2] = {1, 3}
  const %shape : i64[3] = {0, -1, 2}
  const %wide : i64[4] = {5, 1, 3, 1}
  const %twice : i64[3] = {1, 2, 3}
  const %axes : i64[2] = {-1, 0}
  const %axis : i64[1] = {1}
  %a = Concat(%x, %y, %x) {axis = -2}
  %b, %c = Split(%x, %sizes) {axis = -1}
  %d, %e = Split(%x) {axis = 1}
  %f = Reshape(%x, %shape)
  %g = Flatten(%x) {axis = 2}
  %h = Flatten(%x) {axis = -2}
  %i = Squeeze(%y, %axis)
  %j = Squeeze(%y)
  %k = Unsqueeze(%x, %axes)
  %l = Transpose(%x)
  %m = Transpose(%x) {perm = [1, 0, 2]}
  %n = Expand(%y, %wide)
  %o = Tile(%x, %twice)
  output %a, %b, %c, %d, %e, %f, %g, %h, %i, %j, %k, %l, %m, %n, %o)"},
           Row{11, R"(
  input %x : f32[2,1,4,5]
  %a = Squeeze(%x) {axes = [-3]}
  %b = Unsqueeze(%x) {axes = [0, 3]}
  %c, %d = Split(%x) {axis = 2, split = [1, 3]}
  %e = Flatten(%x) {axis = 0}
  output %a, %b, %c, %d, %e)"},
           Row{13, R"(
  input %x : f32[4,5,3]
  const %index : i64[] = {-1}
  const %some : i64[2,2] = {0, 2, 2, -3}
  const %places : i64[4,2,3] = {0, 1, 2, 0, 1, 2, 4, 4, 4, 0, 0, 0, -1, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, -5}
  %a = Gather(%x, %index) {axis = 1}
  %b = Gather(%x, %some) {axis = -1}
  %c = Gather(%x, %some)
  %d = GatherElements(%x, %places) {axis = 1}
  output %a, %b, %c, %d)"},
           Row{13, R"(
  input %x : f32[2,8,4,6]
  %a = DepthToSpace(%x) {blocksize = 2}
  %b = DepthToSpace(%x) {blocksize = 2, mode = "CRD"}
  %c = SpaceToDepth(%x) {blocksize = 2}
  output %a, %b, %c)"},
       })
    check(row);
}

TEST(Operators, SliceAndPad) {
  for (const Row& row : {
           Row{9, R"(
  input %x : f32[2,3,4,5]
  %a = Slice(%x) {starts = [1, -9], ends = [3, -1], axes = [1, 3]}
  %b = Slice(%x) {starts = [0, 1], ends = [1, 9]}
  %c = Pad(%x) {pads = [0, 0, 1, 2, 0, 0, 3, 4], value = 2.5}
  %d = Pad(%x) {pads = [0, 1, 0, -1, 0, 0, -2, 1]}
  output %a, %b, %c, %d)"},
           Row{13, R"(
  input %x : f32[7,8]
  const %s1 : i64[2] = {6, -2}
  const %e1 : i64[2] = {-9223372036854775807, 1}
  const %k1 : i64[2] = {-2, -3}
  const %s2 : i64[1] = {1}
  const %e2 : i64[1] = {9223372036854775807}
  const %k2 : i64[1] = {3}
  const %last : i64[1] = {-1}
  const %first : i64[1] = {-100}
  const %zero : i64[1] = {0}
  %a = Slice(%x, %s1, %e1, _, %k1)
  %b = Slice(%x, %s2, %e2, %last, %k2)
  %c = Slice(%x, %last, %first, %zero, %last)
  %d = Slice(%x, %e2, %zero, %zero, %last)
  output %a, %b, %c, %d)"},
           Row{18, R"(
  input %x : f32[2,3,4,5]
  const %value : f32[] = {-1.5}
  const %pads : i64[8] = {0, 0, 1, 0, 0, 1, 0, 2}
  const %some : i64[4] = {3, 1, 0, 2}
  const %axes : i64[2] = {-1, 2}
  const %far : i64[4] = {7, 0, 9, 1}
  %a = Pad(%x, %pads, %value)
  %b = Pad(%x, %some, %value, %axes)
  %c = Pad(%x, %some, _, %axes) {mode = "reflect"}
  %d = Pad(%x, %far, _, %axes) {mode = "edge"}
  %e = Pad(%x, %far, _, %axes) {mode = "reflect"}
  output %a, %b, %c, %d, %e)",
               " value "},
       })
    check(row);
}

TEST(Operators, Resize) {
  for (const Row& row : {
           Row{13, R"(
  input %x : f32[1,2,4,5]
  const %up : f32[4] = {1, 1, 2, 3}
  const %odd : f32[4] = {1, 1, 1.7, 0.6}
  const %sizes : i64[4] = {1, 2, 3, 9}
  %a = Resize(%x, _, %up)
  %b = Resize(%x, _, %odd) {mode = "linear"}
  %c = Resize(%x, _, %up) {mode = "linear", coordinate_transformation_mode = "align_corners"}
  %d = Resize(%x, _, _, %sizes) {mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"}
  %e = Resize(%x, _, _, %sizes) {coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"}
  %f = Resize(%x, _, %odd) {mode = "linear", coordinate_transformation_mode = "asymmetric"}
  %g = Resize(%x, _, %odd) {nearest_mode = "round_prefer_ceil"}
  %h = Resize(%x, _, %odd) {nearest_mode = "ceil", coordinate_transformation_mode = "align_corners"}
  %i = Resize(%x, _, %odd) {coordinate_transformation_mode = "tf_half_pixel_for_nn"}
  output %a, %b, %c, %d, %e, %f, %g, %h, %i)",
               " up odd "},
           Row{18, R"(
  input %x : f32[1,2,4,5]
  const %sizes : i64[2] = {7, 3}
  %a = Resize(%x, _, _, %sizes) {axes = [3, 2], mode = "linear"}
  output %a)"},
           Row{7, R"(
  input %x : f32[1,2,3,3]
  %a = Upsample(%x) {mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]}
  %b = Upsample(%x) {mode = "linear", scales = [1.0, 1.0, 1.5, 2.0]}
  output %a, %b)"},
       })
    check(row);
}

struct Refused {
  int opset;
  const char* node;  ///< reads %x, is called "here"
};

void expect_refused(ErrorCode code, const std::string& declarations, std::initializer_list<Refused> cases) {
  std::string message;
  for (const Refused& c : cases) {
    EXPECT_EQ(refusal_of(declarations + c.node + "\noutput %y", c.opset, message), code) << message;
    EXPECT_NE(message.find("'here'"), std::string::npos) << message;
  }
}

TEST(Operators, VariantsWithoutAFormAreRefusedByName) {
  expect_refused(ErrorCode::kUnsupported, R"(
input %x : f32[1,4,4,4]
const %s : f32[4] = {1, 1, 2, 2}
const %t : bool[] = {true}
const %w : f32[4,1,1,1] = {1, 2, 3, 4}
)",
                 {{13, "%y, %i = MaxPool(%x) {kernel_shape = [2, 2]} \"here\""},
                  {13, "%y = Resize(%x, _, %s) {mode = \"cubic\"} \"here\""},
                  {13, "%y = Dropout(%x, _, %t) \"here\""},
                  {13, "%y = ConvTranspose(%x, %w) {output_shape = [70, 70]} \"here\""}});
}

TEST(Operators, MalformedOnesAreTheModelsFault) {
  expect_refused(ErrorCode::kInvalidModel, R"(
input %x : f32[n,c,h,w]
const %s : f32[4] = {1, 1, -2, 2}
const %z : i64[4] = {1, 1, 99999999999, 2}
const %v : f32[1] = {1}
const %far : i64[8] = {0, 0, 0, 0, 0, 0, 0, 99999999999}
)",
                 {{13, "%y = DepthToSpace(%x) {blocksize = 0} \"here\""},
                  {13, "%y = SpaceToDepth(%x) {blocksize = -2} \"here\""},
                  {18, "%y = GroupNormalization(%x, %v, %v) {num_groups = 0} \"here\""},
                  {13, "%y = Pad(%x, %far) {mode = \"edge\"} \"here\""},
                  {13, "%y = Resize(%x, _, %s) \"here\""},
                  {13, "%y = Resize(%x, _, _, %z) {mode = \"linear\"} \"here\""}});
}

}  // namespace
}  // namespace slipway
