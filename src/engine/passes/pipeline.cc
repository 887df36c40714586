// THE list of passes and their runner. The list is cut into stages; the rows up to a stage run over and over until none
// changes anything, then the next stage begins. So the float clean-up sees the model before anything is quantised for
// good, integer patterns are found before leftovers are given up, and fusion comes last.
#include "engine/passes/pipeline.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/passes/passes.h"
#include "model/infer.h"

namespace slipway {
namespace {

constexpr int kMaxRounds = 24;

constexpr bool kStandard = true, kEngineOnly = false;

constexpr Pass kPasses[] = {
    {"fp16_to_fp32", fp16_to_fp32, kEngineOnly, "compute FP16 and BF16 models in FP32, types kept at the border"},
    {"qlinear_to_qdq", qlinear_to_qdq, kStandard, "QLinearConv and QLinearMatMul as Q/DQ around the float operator"},
    {"constant_folding", constant_folding, kStandard, "evaluate nodes whose inputs are constant"},
    {"simplify_shapes", simplify_shapes, kStandard, "shape arithmetic becomes constants, free batch included"},
    {"inline_if", inline_if, kStandard, "an If with a constant condition as the branch that it takes"},
    {"unroll_loops", unroll_loops, kStandard, "a Loop or Scan of a few known turns as copies of its body"},
    {"expand_attention", expand_attention, kEngineOnly, "Attention as products and Softmax"},
    {"remove_no_ops", remove_no_ops, kStandard,
     "drop Identity, Dropout, null casts, cancelling reshapes and transposes"},
    {"common_subexpressions", common_subexpressions, kStandard, "merge equal nodes and equal small constants"},
    {"fuse_layer_norm", fuse_layer_norm, kStandard, "means, squares and roots as LayerNormalization, RMSNormalization"},
    {"fuse_gelu", fuse_gelu, kStandard, "x times a gate of x as Gelu, Swish or HardSwish"},
    {"canonicalize", canonicalize, kStandard, "Sum of two as Add, spatial means as GlobalAveragePool"},
    {"resolve_auto_pad", resolve_auto_pad, kStandard, "write auto_pad as explicit pads"},
    {"merge_slices", merge_slices, kStandard, "one Slice for slices along different axes"},
    {"cancel_concat", cancel_concat, kStandard, "Split and Concat, Concat and Slice that undo each other"},
    {"sink_transposes", sink_transposes, kStandard, "move transposes down until they cancel"},
    {"sink_expand", sink_expand, kStandard, "move Expand down, and drop it where its reader broadcasts"},
    {"fold_pad", fold_pad, kStandard, "move Pad into the pads of Conv and pools"},
    {"unflatten_matmul", unflatten_matmul, kStandard, "MatMul without the reshapes around it, its bias before them"},
    {"matmul_add_to_gemm", matmul_add_to_gemm, kStandard, "MatMul and Add as Gemm"},
    {"fuse_conv_bn", fuse_conv_bn, kStandard, "fold BatchNormalization into Conv, ConvTranspose and Gemm"},
    {"fuse_conv_affine", fuse_conv_affine, kStandard, "fold per-channel Mul and Add into Conv, ConvTranspose and Gemm"},
    {"fold_scale", fold_scale, kStandard, "fold a number, or one a column, into the weights of MatMul"},
    {"merge_scales", merge_scales, kStandard, "numbers multiplied in turn, or on both sides of MatMul, as one"},
    {"batch_norm_to_affine", batch_norm_to_affine, kStandard, "remaining BatchNormalization as Mul and Add"},
    {"dead_code", dead_code, kStandard, "erase what nothing reads"},

    {"push_dequantize", push_dequantize, kEngineOnly, "operators that only move values run on integers"},
    {"pull_quantize", pull_quantize, kEngineOnly, "quantise before reshapes and concatenation, next to the producer"},
    {"quantize_conv", quantize_conv, kEngineOnly, "Q/DQ around Conv, its residual and activation as QConv"},
    {"quantize_gemm", quantize_gemm, kEngineOnly, "Q/DQ around Gemm and MatMul as QGemm"},
    {"quantize_add", quantize_add, kEngineOnly, "Q/DQ around Add as QAdd"},
    {"quantize_pool", quantize_pool, kEngineOnly, "Q/DQ around average pools as QAveragePool"},
    {"quantize_lookup", quantize_lookup, kEngineOnly, "Q/DQ around unary functions, or alone, as a table"},

    {"dequantize_leftovers", dequantize_leftovers, kEngineOnly, "weights that no integer operator took become float"},

    {"fuse_softmax", fuse_softmax, kEngineOnly, "scale, mask, Softmax and its guard against NaN as one"},
    {"to_fused", to_fused, kEngineOnly, "Conv, Gemm and MatMul as the engine's fused operators"},
    {"fuse_residual", fuse_residual, kEngineOnly, "Conv and residual Add as one"},
    {"fuse_activation", fuse_activation, kEngineOnly, "Conv or Gemm and activation as one"},
};

// Last row of each stage.
constexpr std::string_view kStageEnds[] = {"dead_code", "quantize_lookup", "dequantize_leftovers", "fuse_activation"};

size_t row_of(std::string_view name) {
  const auto it = std::find_if(std::begin(kPasses), std::end(kPasses), [&](const Pass& p) { return p.name == name; });
  return static_cast<size_t>(it - std::begin(kPasses));
}

void require_known(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (row_of(name) == std::size(kPasses))
      fail(ErrorCode::kInvalidArgument, "There is no pass of this name; `optimize` lists them: '{}'", name);
}

class Runner {
 public:
  Runner(Graph& graph, const PipelineOptions& options) : graph_(graph), options_(options), context_(options.context) {
    context_.standard_onnx = options.standard_onnx;
    for (const Pass& pass : kPasses) reports_.push_back({.name = std::string(pass.name)});
  }

  bool finished() const { return options_.stop_after >= 0 && changes_ >= options_.stop_after; }

  // One sweep over the first `rows` rows; whether any of them changed the graph.
  bool sweep(size_t rows) {
    bool changed = false;
    for (size_t row = 0; row < rows && !finished(); ++row)
      if (is_enabled(kPasses[row])) changed |= run(kPasses[row], reports_[row]);
    return changed;
  }

  std::vector<PassReport> take_reports() {
    std::erase_if(reports_, [&](const PassReport& r) { return !is_enabled(kPasses[row_of(r.name)]); });
    return std::move(reports_);
  }

 private:
  bool is_enabled(const Pass& pass) const {
    const auto& disabled = options_.disabled;
    return (pass.standard_onnx || !options_.standard_onnx) &&
           std::find(disabled.begin(), disabled.end(), pass.name) == disabled.end();
  }

  bool run(const Pass& pass, PassReport& report) {
    const int64_t start_ns = now_ns();
    const size_t before = graph_.node_count();
    const bool changed = pass.run(graph_, context_);
    if (changed) infer_shapes(graph_), verify(graph_);
    if (report.nodes_before == 0) report.nodes_before = report.nodes_after = before;
    report.nodes_after = report.nodes_after + graph_.node_count() - before;
    report.changed |= changed;
    report.time_ms += static_cast<double>(now_ns() - start_ns) / 1e6;
    if (changed) ++changes_;
    if (changed && !options_.dump_folder.empty())
      write_file(join_path(options_.dump_folder, fmt::format("{:03}_{}.txt", changes_, pass.name)),
                 to_text(graph_, {.elide = true}));
    return changed;
  }

  Graph& graph_;
  const PipelineOptions& options_;
  PassContext context_;
  std::vector<PassReport> reports_;
  int changes_ = 0;
};

}  // namespace

std::span<const Pass> all_passes() { return kPasses; }

std::vector<PassReport> run_passes(Graph& graph, const PipelineOptions& options) {
  require_known(options.disabled);
  if (!options.dump_folder.empty()) make_folders(options.dump_folder);
  infer_shapes(graph);
  Runner runner(graph, options);
  for (std::string_view end : kStageEnds)
    for (int round = 0; round < kMaxRounds && runner.sweep(row_of(end) + 1); ++round) {
    }
  return runner.take_reports();
}

}  // namespace slipway
