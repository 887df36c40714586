// Every candidate of every tactic against the reference: each node of small graphs, as the model has it and after
// fusion, is run by every implementation that accepts it, in its own layouts, with separate and with shared buffers.
// Integers must come out bit for bit.
#include "engine/lower/lower.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/parallel.h"
#include "engine/engine_testing.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/ulp.h"
#include "engine/lower/step_graph.h"
#include "engine/passes/pipeline.h"

namespace slipway {
namespace {

constexpr std::byte kCanary{0xa5};
constexpr size_t kGuardBytes = 64;

/// Bytes with a guard behind them, `shift` bytes behind an aligned address.
struct Buffer {
  explicit Buffer(size_t n, size_t shift = 0)
      : bytes(n),
        storage(allocate_aligned(shift + round_up(n, kAlignment) + kGuardBytes)),
        data(storage.get() + shift) {
    std::fill_n(data, round_up(n, kAlignment) + kGuardBytes, kCanary);
  }
  bool intact() const {
    return std::all_of(data + bytes, data + bytes + kGuardBytes, [](std::byte b) { return b == kCanary; });
  }
  size_t bytes;
  AlignedBytes storage;
  std::byte* data;
};

class CandidateCheck {
 public:
  /// `special`: the inputs hold NaN and the like, so all is run faithfully.
  CandidateCheck(const Graph& graph, Random& random, int threads, bool special = false)
      : graph_(graph), threads_(threads), special_(special) {
    std::vector<Tensor> inputs = random_inputs(graph_, random);
    if (special)
      for (Tensor& t : inputs)
        if (t.dtype() == DType::kFloat32)
          for (float& v : t.mutable_values<float>()) v = hard_float(random);
    for (size_t i = 0; i < inputs.size(); ++i) values_[graph_.inputs()[i]] = inputs[i];
    evaluate(graph_, inputs, [&](ValueId id, const Tensor& t) { values_[id] = t; });
    set_thread_count(threads);
    for (NodeId id : graph_.topological_order()) check(graph_.node(id));
  }

  std::map<std::string, int> runs;  ///< by tactic

 private:
  void check(const Node& node) {
    std::vector<bool> constants;
    for (ValueId v : node.inputs) constants.push_back(v != kNoValue && graph_.value(v).is_constant());
    if (!node.captures.empty()) return;
    const Graph alone = step_graph(graph_, node);
    const LowerContext build{graph_, node, threads_, constants}, step{alone, step_node(alone), threads_, constants};
    for (const Candidate& candidate : propose_candidates(build)) {
      if (!candidate.rejected.empty()) continue;
      run(build, step, candidate, false);
      run(build, step, candidate, false, true);
      if (!special_ && candidate.loses_special) run(build, step, candidate, false, false, true);
      if (candidate.inplace_input >= 0) run(build, step, candidate, true);
      ++runs[candidate.tactic];
    }
  }

  void run(const LowerContext& build, const LowerContext& step, const Candidate& candidate, bool inplace,
           bool shifted = false, bool faithful = false) {
    SCOPED_TRACE(fmt::format("{} by {} {} threads {}{}", build.node.label(), candidate.tactic, candidate.variant,
                             threads_,
                             inplace    ? " in place"
                             : shifted  ? " unaligned"
                             : faithful ? " faithfully"
                                        : ""));
    const Tactic& tactic = tactic_named(candidate.tactic);
    std::vector<Blob> blobs;
    if (tactic.pack != nullptr) blobs = tactic.pack(build, candidate);
    std::vector<BlobView> views;
    for (const Blob& blob : blobs) views.emplace_back(blob.data.get(), blob.bytes);
    const auto kernel = tactic.create(step, candidate, views);
    const auto state = kernel->make_state();
    // What is plain may be the caller's, which lies anywhere.
    const auto shift = [&](Layout layout, DType dtype) {
      return shifted && layout == Layout::kPlain ? bytes_of(dtype, 1) : 0;
    };
    std::vector<Buffer> buffers;
    buffers.reserve(build.node.inputs.size() + build.node.outputs.size() + 1);
    std::vector<const void*> inputs(build.node.inputs.size(), nullptr);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!build.has_input(i) || build.is_constant(i)) continue;
      const Tensor& t = values_.at(build.node.inputs[i]);
      buffers.emplace_back(layout_bytes(candidate.inputs[i], t.dtype(), t.dims()),
                           shift(candidate.inputs[i], t.dtype()));
      convert_layout(Layout::kPlain, t.raw(), candidate.inputs[i], buffers.back().data, t.dtype(), t.dims(), 1);
      inputs[i] = buffers.back().data;
    }
    std::vector<void*> outputs(build.node.outputs.size(), nullptr);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (build.node.outputs[i] == kNoValue) continue;
      const size_t bytes = layout_bytes(candidate.outputs[i], build.output_dtype(i), build.output_dims(i));
      buffers.emplace_back(bytes, shift(candidate.outputs[i], build.output_dtype(i)));
      outputs[i] = buffers.back().data;
    }
    if (inplace) {
      const auto shared = static_cast<size_t>(candidate.inplace_input);
      if (inputs[shared] == nullptr) return;
      const size_t in = layout_bytes(candidate.inputs[shared], build.input_dtype(shared), build.input_dims(shared));
      const size_t out = layout_bytes(candidate.outputs[0], build.output_dtype(0), build.output_dims(0));
      if (in != out) return;
      outputs[0] = const_cast<void*>(inputs[shared]);
    }
    buffers.emplace_back(kernel->scratch_bytes());
    kernel->run({inputs.data(), outputs.data(), buffers.back().data, state.get(), threads_, special_ || faithful});
    for (const Buffer& buffer : buffers) EXPECT_TRUE(buffer.intact()) << "wrote behind a buffer";
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i] == nullptr) continue;
      Tensor plain(build.output_dtype(i), build.output_dims(i));
      if (plain.bytes() > 0)
        convert_layout(candidate.outputs[i], outputs[i], Layout::kPlain, plain.mutable_raw(), plain.dtype(),
                       plain.dims(), 1);
      if (special_)
        expect_same_class(plain, values_.at(build.node.outputs[i]));
      else
        EXPECT_EQ(difference(plain, values_.at(build.node.outputs[i])), "");
      expect_zero_padding(candidate.outputs[i], plain, outputs[i]);
    }
  }

  // NaN, infinities and the sign of zero are the reference's; numbers are a few units in the last place from it.
  void expect_same_class(const Tensor& actual, const Tensor& expected) {
    if (actual.dtype() != DType::kFloat32) {
      EXPECT_EQ(difference(actual, expected), "");
      return;
    }
    for (size_t i = 0; i < expected.values<float>().size(); ++i)
      ASSERT_LE(ulp_error(actual.values<float>()[i], static_cast<double>(expected.values<float>()[i])), 5)
          << "element " << i << " is " << actual.values<float>()[i] << " instead of " << expected.values<float>()[i];
  }

  void expect_zero_padding(Layout layout, const Tensor& plain, const void* made) {
    if (layout == Layout::kPlain || plain.bytes() == 0) return;
    Buffer again(layout_bytes(layout, plain.dtype(), plain.dims()));
    convert_layout(Layout::kPlain, plain.raw(), layout, again.data, plain.dtype(), plain.dims(), 1);
    EXPECT_EQ(std::memcmp(again.data, made, again.bytes), 0) << "the padding channels are not zero";
  }

  const Graph& graph_;
  int threads_;
  bool special_;
  std::map<ValueId, Tensor> values_;
};

std::map<std::string, int> check_text(const std::string& text, Random& random) {
  std::map<std::string, int> runs;
  const Graph original = random_graph(text, random);
  // As the model has it on one thread; fused, with a batch, on two.
  Graph plain = original, fused = original;
  bind_batch(plain, 1);
  bind_batch(fused, 3);
  run_passes(fused);
  for (const Graph* graph : {&plain, &fused})
    for (const auto& [tactic, count] : CandidateCheck(*graph, random, graph == &plain ? 1 : 2).runs)
      runs[tactic] += count;
  return runs;
}

std::string one_node(const std::string& declarations, const std::string& node, int opset = 13) {
  return fmt::format("graph \"\" ir 8 opset {{\"\": {}}} {{\n{}\n  %y = {}\n  output %y\n}}", opset, declarations,
                     node);
}

TEST(Lower, ConvolutionsOfManyShapesAgree) {
  const uint64_t seed = 20240311;
  Random random(seed);
  int runs = 0;
  for (int i = 0; i < 24; ++i) {
    const int64_t widths[] = {3, 5, 16, 17, 8, 32};
    const bool depthwise = i % 5 == 1, grouped = i % 5 == 2;
    const int64_t groups = depthwise ? widths[random.below(6)] : grouped ? 2 : 1;
    const int64_t in = depthwise ? groups : groups * (grouped ? 4 : widths[random.below(6)]);
    const int64_t out = depthwise ? in : grouped ? 6 : widths[random.below(6)];
    const int64_t kernel = 1 + 2 * static_cast<int64_t>(random.below(2)),
                  stride = 1 + static_cast<int64_t>(random.below(2)),
                  dilation = 1 + static_cast<int64_t>(random.below(2)), pad = static_cast<int64_t>(random.below(3));
    const int64_t h = 6 + static_cast<int64_t>(random.below(6)), w = 6 + static_cast<int64_t>(random.below(6));
    const bool bias = random.below(2) != 0;
    const std::string text = one_node(
        fmt::format("  input %x : f32[N,{},{},{}]\n  input %w_k : f32[{},{},{},{}]{}", in, h, w, out, in / groups,
                    kernel, kernel, bias ? fmt::format("\n  input %w_b : f32[{}]", out) : ""),
        fmt::format(
            "Conv(%x, %w_k{}) {{strides = [{}, {}], dilations = [{}, {}], pads = [{}, {}, {}, {}], group = {}}}",
            bias ? ", %w_b" : "", stride, 1 + (stride + i) % 2, dilation, dilation, pad, pad, pad, pad + i % 2,
            groups));
    SCOPED_TRACE(fmt::format("seed {} case {}\n{}", seed, i, text));
    runs += check_text(text, random)["onednn_conv"];
  }
  EXPECT_GE(runs, 60);
}

TEST(Lower, FusedActivationsAndResidualsAgree) {
  Random random(1);
  for (const char* activation : {"Relu(%s)", "LeakyRelu(%s) {alpha = 0.2}", "Sigmoid(%s)", "Tanh(%s)", "HardSwish(%s)",
                                 "Elu(%s) {alpha = 0.7}", "HardSigmoid(%s) {alpha = 0.3, beta = 0.4}"}) {
    SCOPED_TRACE(activation);
    auto runs = check_text(fmt::format(R"(graph "" ir 8 opset {{"": 14}} {{
  input %x : f32[N,17,7,6]
  input %w_a : f32[5,17,3,3]
  input %w_b : f32[5]
  input %w_r : f32[5,17,1,1]
  %c = Conv(%x, %w_a, %w_b) {{pads = [1, 1, 1, 1]}} "conv"
  %r = Conv(%x, %w_r) "shortcut"
  %s = Add(%c, %r) "add"
  %y = {} "activation"
  output %y
}})",
                                       activation),
                           random);
    EXPECT_GT(runs["onednn_conv"], 0);
  }
}

TEST(Lower, ResidualsReachWindowsThatLieInThePaddingAlone) {
  Random random(2);
  for (const int64_t channels : {1, 8, 16})
    for (const int64_t kernel : {1, 3})
      for (size_t side = 0; side < 4; ++side) {
        int64_t pads[4] = {0, 0, 0, 0};
        pads[side] = kernel + 1;
        const int64_t h = 9 + pads[0] + pads[2] - kernel + 1, w = 7 + pads[1] + pads[3] - kernel + 1;
        SCOPED_TRACE(fmt::format("{} channels, kernel {}, side {}", channels, kernel, side));
        auto runs = check_text(fmt::format(R"(graph "" ir 8 opset {{"": 14}} {{
  input %x : f32[N,{0},9,7]
  input %r : f32[N,{0},{6},{7}]
  input %w_a : f32[{0},{0},{1},{1}]
  %c = Conv(%x, %w_a) {{pads = [{2}, {3}, {4}, {5}]}} "conv"
  %s = Add(%c, %r) "add"
  %y = Relu(%s)
  output %y
}})",
                                           channels, kernel, pads[0], pads[1], pads[2], pads[3], h, w),
                               random);
        EXPECT_GT(runs["onednn_conv"], 0);
      }
}

TEST(Lower, ProductsAgree) {
  Random random(2);
  int runs = 0;
  const std::pair<const char*, const char*> cases[] = {
      {"input %x : f32[N,17]\n input %w_b : f32[17,5]\n input %w_c : f32[5]", "Gemm(%x, %w_b, %w_c)"},
      {"input %x : f32[N,17]\n input %w_b : f32[5,17]\n input %w_c : f32[5]", "Gemm(%x, %w_b, %w_c) {transB = 1}"},
      {"input %z : f32[N,17]\n input %x : f32[17,4]\n input %w_b : f32[17,5]", "Gemm(%x, %w_b) {transA = 1}"},
      {"input %x : f32[N,17]\n input %w_b : f32[17,5]\n input %w_c : f32[5]",
       "Gemm(%x, %w_b, %w_c) {alpha = 0.5, beta = 2.0}"},
      {"input %x : f32[N,33]\n input %w_b : f32[33,16]\n input %w_c : f32[1,16]", "Gemm(%x, %w_b, %w_c)"},
      {"input %x : f32[N,7,9]\n input %w_b : f32[9,4]", "MatMul(%x, %w_b)"},
      {"input %x : f32[N,3,7,9]\n input %w_b : f32[9,4]", "MatMul(%x, %w_b)"},
      {"input %x : f32[N,4,5]\n input %z : f32[N,5,6]", "MatMul(%x, %z)"},
      {"input %x : f32[N,2,4,5]\n input %z : f32[2,5,3]", "MatMul(%x, %z)"},
      {"input %z : f32[4,5]\n input %x : f32[N,5,6]", "MatMul(%z, %x)"},
      {"input %x : f32[N,9]\n input %w_b : f32[9]", "MatMul(%x, %w_b)"},
  };
  for (const auto& [declarations, node] : cases) {
    SCOPED_TRACE(node);
    runs += check_text(one_node(declarations, node), random)["onednn_matmul"];
  }
  EXPECT_GE(runs, 10);
}

TEST(Lower, PoolsAgree) {
  Random random(3);
  int runs = 0;
  const char* const attributes[] = {"kernel_shape = [2, 2], strides = [2, 2]",
                                    "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]",
                                    "kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1",
                                    "kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1], ceil_mode = 1"};
  for (const char* shape : {"N,3,9,8", "N,16,8,10", "N,17,7,7"}) {
    const std::string input = fmt::format("  input %x : f32[{}]", shape);
    for (const char* list : attributes)
      for (const std::string& node :
           {fmt::format("MaxPool(%x) {{{}}}", list), fmt::format("AveragePool(%x) {{{}}}", list),
            fmt::format("AveragePool(%x) {{{}, count_include_pad = 1}}", list)}) {
        SCOPED_TRACE(fmt::format("{} {}", shape, node));
        runs += check_text(one_node(input, node), random)["onednn_pool"];
      }
    for (const char* node :
         {"GlobalAveragePool(%x)", "GlobalMaxPool(%x)", "MaxPool(%x) {kernel_shape = [2, 2], dilations = [2, 2]}"}) {
      SCOPED_TRACE(fmt::format("{} {}", shape, node));
      runs += check_text(one_node(input, node), random)["onednn_pool"];
    }
  }
  EXPECT_GE(runs, 50);
}

TEST(Lower, ElementwiseAgree) {
  Random random(4);
  std::map<std::string, int> runs;
  for (const char* node :
       {"Relu(%x)", "LeakyRelu(%x) {alpha = 0.3}", "Elu(%x)", "Sigmoid(%x)", "Tanh(%x)", "HardSwish(%x)", "Exp(%x)",
        "Abs(%x)", "Neg(%x)", "Softplus(%x)", "Clip(%x, %lo, %hi)", "Clip(%x, _, %hi)", "Clip(%x, %lo)", "Erf(%x)"})
    for (const char* shape : {"N,17,5,6", "N,9", "N,2,3,4,5"}) {
      SCOPED_TRACE(fmt::format("{} {}", shape, node));
      const std::string bounds = "  const %lo : f32[] = {-0.5}\n  const %hi : f32[] = {0.75}\n";
      for (const auto& [tactic, count] :
           check_text(one_node(fmt::format("{}  input %x : f32[{}]", bounds, shape), node, 14), random))
        runs[tactic] += count;
    }
  EXPECT_GE(runs["elementwise"], 50);
}

TEST(Lower, BroadcastsAgree) {
  Random random(5);
  int runs = 0;
  const std::pair<const char*, const char*> shapes[] = {
      {"N,17,5,6", "N,17,5,6"}, {"N,16,5,6", "1,16,1,1"}, {"N,17,5,6", "17,1,1"},
      {"N,8,5,6", "6"},         {"N,8,5,6", "N,8,1,1"},   {"N,5", "5"},
      {"N,5", "N,1"},           {"N,3,4", "3,1"},         {"N,16,4,4", "1"},
      {"1,16,1,1", "N,16,4,4"}, {"N,8,5,6", "N,1,5,6"}};
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min"})
    for (const auto& [a, b] : shapes)
      for (const char* name : {"z", "w_z"}) {
        if (std::string(b).find('N') != std::string::npos && name[0] == 'w') continue;
        SCOPED_TRACE(fmt::format("{} {} {} {}", op, a, b, name));
        runs += check_text(one_node(fmt::format("  input %x : f32[{}]\n  input %{} : f32[{}]", a, name, b),
                                    fmt::format("{}(%x, %{})", op, name)),
                           random)["binary"];
      }
  EXPECT_GE(runs, 100);
}

TEST(Lower, SoftmaxOfBothMeaningsAgrees) {
  Random random(6);
  int runs = 0;
  for (const int opset : {11, 13})
    for (const char* op : {"Softmax", "LogSoftmax"})
      for (const int axis : {1, 2, -1}) {
        SCOPED_TRACE(fmt::format("{} opset {} axis {}", op, opset, axis));
        runs += check_text(one_node("  input %x : f32[N,5,7]", fmt::format("{}(%x) {{axis = {}}}", op, axis), opset),
                           random)["softmax"];
      }
  EXPECT_GE(runs, 12);
}

// Masks of both kinds, as inputs and as constants, that vary along the row or not.
constexpr std::pair<const char*, const char*> kMaskedSoftmaxes[] = {
    {"input %x : f32[N,2,5,7]", "slipway.Softmax(%x) {scale = 0.25, guard = 1}"},
    {"input %x : f32[N,2,5,7]\n input %z : f32[N,1,1,7]", "slipway.Softmax(%x, %z) {scale = -0.25}"},
    {"input %x : f32[N,2,5,7]\n input %w_z : f32[5,7]", "slipway.Softmax(%x, %w_z) {guard = 1}"},
    {"input %x : f32[N,5,37]\n input %z : f32[5,1]", "slipway.Softmax(%x, %z)"},
    {"input %x : f32[N,5,37]\n input %z : bool[N,1,37]", "slipway.Softmax(%x, %z) {fill = -inf, guard = 1}"},
    {"input %x : f32[N,3,4]\n const %z : bool[3,4] = {true, false, false, false, false, false, false, false, false, "
     "true, "
     "true, true}",
     "slipway.Softmax(%x, %z) {fill = -inf, keeps = 0, scale = 3.0}"},
    {"input %x : f32[N,9]\n input %z : bool[]", "slipway.Softmax(%x, %z) {fill = -1e4}"}};

TEST(Lower, MaskedSoftmaxAgrees) {
  Random random(16);
  int runs = 0;
  for (const auto& [declarations, node] : kMaskedSoftmaxes) {
    SCOPED_TRACE(node);
    runs += check_text(one_node(declarations, node), random)["softmax"];
  }
  EXPECT_GE(runs, 14);
}

struct NormalizationCase {
  const char *declarations, *node;
  int opset;
};
// Scale and bias as constants, whole and to be repeated, and as inputs.
constexpr NormalizationCase kNormalizations[] = {
    {"input %x : f32[N,5,37]\n input %w_s : f32[37]\n input %w_b : f32[37]", "LayerNormalization(%x, %w_s, %w_b)", 17},
    {"input %x : f32[N,5,48]\n input %w_s : f32[48]", "LayerNormalization(%x, %w_s) {epsilon = 0.1}", 17},
    {"input %x : f32[N,5,3,7]\n input %w_s : f32[1,1,3,7]\n input %w_b : f32[7]",
     "LayerNormalization(%x, %w_s, %w_b) {axis = 2}", 17},
    {"input %x : f32[N,5,3,7]\n input %w_s : f32[3,1]\n input %w_b : f32[]",
     "LayerNormalization(%x, %w_s, %w_b) {axis = -2}", 9},
    {"input %s : f32[20]\n input %b : f32[1]\n input %x : f32[N,20]", "LayerNormalization(%x, %s, %b)", 17},
    {"input %x : f32[N,5,64]\n input %w_s : f32[64]", "RMSNormalization(%x, %w_s)", 23},
    {"input %x : f32[N,5,9]\n input %s : f32[1]", "SimplifiedLayerNormalization(%x, %s) {epsilon = 0.0}", 13},
    {"input %x : f32[N,3,6,7]\n input %w_s : f32[3]\n input %w_b : f32[3]", "InstanceNormalization(%x, %w_s, %w_b)",
     17},
    {"input %s : f32[2]\n input %b : f32[2]\n input %x : f32[N,2,33]", "InstanceNormalization(%x, %s, %b)", 17},
};

TEST(Lower, NormalizationsAgree) {
  Random random(11);
  int runs = 0;
  for (const auto& [declarations, node, opset] : kNormalizations) {
    SCOPED_TRACE(fmt::format("{} {}", declarations, node));
    runs += check_text(one_node(declarations, node, opset), random)["normalization"];
  }
  EXPECT_GE(runs, 18);
  // Statistics are left to the reference, as are scales that differ between rows or broadcast at run time.
  const std::pair<const char*, const char*> others[] = {
      {"input %x : f32[N,5,3]\n input %w_s : f32[5,1]", "LayerNormalization(%x, %w_s)"},
      {"input %x : f32[N,5,3]\n input %s : f32[5,1]", "LayerNormalization(%x, %s) {axis = 1}"},
      {"input %x : f32[N,5,3]\n input %w_s : f32[3]", "LayerNormalization(%x, %w_s)"}};
  for (size_t i = 0; i < std::size(others); ++i) {
    SCOPED_TRACE(others[i].second);
    std::string text = one_node(others[i].first, others[i].second, 17);
    if (i == 2) text.replace(text.find("%y ="), 4, "%y, %mean =");
    EXPECT_EQ(check_text(text, random)["normalization"], 0);
  }
}

TEST(Lower, MovementsAgree) {
  Random random(7);
  std::map<std::string, int> runs;
  for (const char* type : {"f32", "u8", "i64"})
    for (const char* node :
         {"Concat(%x, %z) {axis = 1}", "Concat(%x, %x) {axis = 3}", "Slice(%x, %starts, %ends, %axes, %steps)",
          "Transpose(%x) {perm = [0, 2, 3, 1]}", "Transpose(%x) {perm = [3, 1, 0, 2]}", "Reshape(%x, %shape)",
          "Flatten(%x)", "Unsqueeze(%x, %axes)", "Identity(%x)"}) {
      SCOPED_TRACE(fmt::format("{} {}", type, node));
      for (const auto& [tactic, count] : check_text(
               one_node(
                   fmt::format("  input %x : {0}[N,6,5,4]\n  input %z : {0}[N,3,5,4]\n  const %shape : i64[3] = {{0, "
                               "-1, 4}}\n  const %starts : i64[2] = {{1, -1}}\n  const %ends : i64[2] = {{5, -5}}\n"
                               "  const %axes : i64[2] = {{1, 2}}\n  const %steps : i64[2] = {{2, -1}}",
                               type),
                   node),
               random))
        runs[tactic] += count;
    }
  for (const char* mode : {"constant", "reflect", "edge"}) {
    SCOPED_TRACE(mode);
    for (const auto& [tactic, count] :
         check_text(one_node("  input %x : f32[N,6,5,4]\n  const %pads : i64[8] = {0, 1, 2, 1, 0, 0, 1, 2}\n"
                             "  const %value : f32[] = {1.5}",
                             fmt::format("Pad(%x, %pads, %value) {{mode = \"{}\"}}", mode)),
                    random))
      runs[tactic] += count;
  }
  EXPECT_GE(runs["movement"], 30);
}

TEST(Lower, ResizesToTheNearestAgree) {
  Random random(11);
  int runs = 0;
  for (const char* coordinates : {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"})
    for (const char* nearest : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})
      for (const char* scales : {"1, 1, 2, 2", "1, 1, 3, 1", "1, 2, 1, 2", "1, 1, 2.5, 2", "1, 1, 0.5, 4"})
        for (const char* type : {"f32", "u8"}) {
          SCOPED_TRACE(fmt::format("{} {} {}", coordinates, nearest, scales));
          runs +=
              check_text(one_node(fmt::format("  input %x : {}[N,16,4,5]\n  const %s : f32[4] = {{{}}}", type, scales),
                                  fmt::format("Resize(%x, _, %s) {{mode = \"nearest\", nearest_mode = \"{}\", "
                                              "coordinate_transformation_mode = \"{}\"}}",
                                              nearest, coordinates)),
                         random)["movement"];
        }
  EXPECT_GE(runs, 40);
  EXPECT_GE(check_text(one_node("  input %x : f32[N,3,4,5]\n  const %to : i64[4] = {2, 3, 8, 15}",
                                "Resize(%x, _, _, %to) {mode = \"nearest\"}"),
                       random)["movement"],
            1);
}

TEST(Lower, TransposedConvolutionsOfManyShapesAgree) {
  const uint64_t seed = 20240312;
  Random random(seed);
  int runs = 0;
  for (int i = 0; i < 40; ++i) {
    const int64_t widths[] = {3, 5, 16, 17, 8, 32};
    const int64_t groups = i % 5 == 1   ? 4
                           : i % 5 == 2 ? 2
                                        : 1,
                  in = groups * (groups > 1 ? 4 : widths[random.below(6)]),
                  out = groups == 4 ? 1 : widths[random.below(6)];
    const int64_t kernel = 1 + static_cast<int64_t>(random.below(4)),
                  stride = 1 + static_cast<int64_t>(random.below(3)),
                  dilation = 1 + static_cast<int64_t>(random.below(2)), pad = static_cast<int64_t>(random.below(2));
    const int64_t more = stride > 1 ? static_cast<int64_t>(random.below(2)) : 0;
    const bool bias = random.below(2) != 0;
    const std::string text = one_node(
        fmt::format("  input %x : f32[N,{},5,{}]\n  input %w_k : f32[{},{},{},{}]{}", in, 4 + i % 4, in, out, kernel,
                    kernel, bias ? fmt::format("\n  input %w_b : f32[{}]", out * groups) : ""),
        fmt::format("ConvTranspose(%x, %w_k{}) {{strides = [{}, {}], dilations = [{}, 1], pads = [{}, 0, 0, {}], "
                    "output_padding = [{}, 0], group = {}}}",
                    bias ? ", %w_b" : "", stride, 1 + i % 2, dilation, kernel > 1 ? pad : 0, kernel > 1 ? pad : 0, more,
                    groups));
    SCOPED_TRACE(fmt::format("seed {} case {}\n{}", seed, i, text));
    runs += check_text(text, random)["onednn_deconv"];
  }
  EXPECT_GE(runs, 40);
}

TEST(Lower, IntegerNetworksAgreeBitForBit) {
  Random random(8);
  std::map<std::string, int> runs;
  for (const IntegerNetwork& network : kIntegerNetworks) {
    SCOPED_TRACE(fmt::format("{} zero {} channels {}", network.type, network.zero_point, network.channels));
    for (const auto& [tactic, count] : check_text(integer_network_text(network), random)) runs[tactic] += count;
  }
  EXPECT_GE(runs["int8_conv"], 20);
}

// All that is not a sum of products keeps special values, in every layout, with the odd and the whole block of
// channels.
TEST(Lower, SpecialValuesComeOutAsOfTheReference) {
  Random random(10);
  std::map<std::string, int> runs;
  const auto check = [&](const std::string& declarations, const std::string& node, int opset) {
    SCOPED_TRACE(fmt::format("{} {}", declarations, node));
    Graph graph = random_graph(one_node(declarations, node, opset), random);
    for (const int batch : {1, 3}) {
      Graph bound = graph;
      bind_batch(bound, batch);
      for (const auto& [tactic, count] : CandidateCheck(bound, random, batch == 1 ? 1 : 2, true).runs)
        runs[tactic] += count;
    }
  };
  for (const char* shape : {"N,16,5,6", "N,17,3,3", "N,3,1,1", "N,9", "N,2,3,2,5", ""}) {
    const std::string x = fmt::format("  input %x : f32[{}]\n", shape);
    for (const UnaryRow& row : unary_functions())
      if (row.name != std::string_view("SiLU") && row.name != std::string_view("GeluTanh"))
        check(x, fmt::format("{}(%x)", row.name), 24);
    for (const char* node : {"Gelu(%x)", "HardSwish(%x)", "Swish(%x) {alpha = 1.702}", "Swish(%x) {alpha = -1.0}"})
      check(x, fmt::format("slipway.{}", node), 13);
    check(x, R"(Gelu(%x) {approximate = "tanh"})", 20);
    check(x, "Clip(%x) {min = -1.0, max = 0.5}", 10);
    check(x + "  const %lo : f32[] = {0.5}\n  const %hi : f32[1] = {-0.5}\n", "Clip(%x, %lo, %hi)", 13);
    check(x + "  input %lo : f32[]\n", "Clip(%x, %lo)", 13);
  }
  const char* const kSixteen = "const %z : f32[16,1,1] = {0, -0.0, nan, inf, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}";
  const std::pair<const char*, std::vector<const char*>> operands[] = {
      {"N,16,5,6", {"f32[1,16,1,1]", "f32[16,1,1]", "f32[N,16,1,1]", "f32[N,1,5,6]", "f32[]", "f32[6]", kSixteen}},
      {"N,17,3,3", {"f32[N,17,3,3]", "f32[17,1,1]", "f32[1,17,1,1]", "f32[1]", "f32[1,1,3,3]"}},
      {"N,3,1,1", {"f32[3,1,1]", "f32[N,3,1,1]", "f32[1,1,1]"}},
      {"N,9", {"f32[9]", "f32[]", "f32[N,1]"}},
      {"", {"f32[]"}},
  };
  for (const auto& [shape, others] : operands)
    for (const BinaryRow& row : binary_functions()) {
      const std::string x = fmt::format("  input %x : f32[{}]\n", shape);
      check(x, fmt::format("{}(%x, %x)", row.name), 13);
      for (const std::string other : others) {
        const std::string both = x + (other[0] == 'f' ? "  input %z : " : "  ") + other;
        check(both, fmt::format("{}(%x, %z)", row.name), 13);
        if (row.name != std::string_view("PRelu")) check(both, fmt::format("{}(%z, %x)", row.name), 13);
      }
    }
  for (const char* op : {"Softmax", "LogSoftmax"})
    for (const int opset : {11, 13})
      for (const int axis : {1, 2, 3})
        check("  input %x : f32[N,5,6,7]", fmt::format("{}(%x) {{axis = {}}}", op, axis), opset);
  for (const auto& [declarations, node, opset] : kNormalizations) check(declarations, node, opset);
  for (const auto& [declarations, node] : kMaskedSoftmaxes) check(declarations, node, 13);
  for (const char* type : {"u8", "i8"})
    for (const char* scale : {"0.5", "1e-30", "-0.25", "inf"})
      check(fmt::format("  input %x : f32[N,17,3,3]\n  const %s : f32[] = {{{}}}\n  const %zero : {}[] = {{3}}", scale,
                        type),
            "QuantizeLinear(%x, %s, %zero)", 13);
  for (const char* node :
       {"Concat(%x, %x) {axis = 1}", "Transpose(%x) {perm = [0, 2, 3, 1]}", "Identity(%x)", "Pad(%x, %pads)"})
    check("  input %x : f32[N,5,3,4]\n  const %pads : i64[8] = {0, 1, 0, 1, 0, 0, 2, 1}", node, 13);
  EXPECT_GE(runs["elementwise"], 500);
  EXPECT_GE(runs["binary"], 300);
  EXPECT_GE(runs["softmax"], 18);
  EXPECT_GE(runs["normalization"], 18);
  EXPECT_GE(runs["int8"], 8);
}

TEST(Lower, EveryRejectionSaysWhy) {
  Random random(9);
  Graph graph = random_graph(integer_network_text(kIntegerNetworks[0]), random);
  bind_batch(graph, 1);
  run_passes(graph);
  int winograd = 0;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    std::vector<bool> constants;
    for (ValueId v : node.inputs) constants.push_back(v != kNoValue && graph.value(v).is_constant());
    const auto candidates = propose_candidates({graph, node, 1, constants});
    EXPECT_FALSE(candidates.empty()) << node.label();
    EXPECT_TRUE(
        std::any_of(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.rejected.empty(); }));
    for (const Candidate& c : candidates) winograd += c.rejected.find("not exact") != std::string::npos;
  }
  EXPECT_GE(winograd, 2) << "oneDNN's inexact INT8 forms are named and refused";
}

}  // namespace
}  // namespace slipway
