#pragma once
#include "engine/passes/pipeline.h"

namespace slipway {

// Every pass, in the order of THE list (pipeline.cc), which also says what each does.
bool fp16_to_fp32(Graph& graph, const PassContext& context);

bool constant_folding(Graph& graph, const PassContext& context);
bool simplify_shapes(Graph& graph, const PassContext& context);
bool inline_if(Graph& graph, const PassContext& context);
bool unroll_loops(Graph& graph, const PassContext& context);
bool expand_attention(Graph& graph, const PassContext& context);
bool remove_no_ops(Graph& graph, const PassContext& context);
bool common_subexpressions(Graph& graph, const PassContext& context);
bool fuse_layer_norm(Graph& graph, const PassContext& context);
bool fuse_gelu(Graph& graph, const PassContext& context);
bool canonicalize(Graph& graph, const PassContext& context);
bool resolve_auto_pad(Graph& graph, const PassContext& context);
bool merge_slices(Graph& graph, const PassContext& context);
bool cancel_concat(Graph& graph, const PassContext& context);
bool sink_transposes(Graph& graph, const PassContext& context);
bool sink_expand(Graph& graph, const PassContext& context);
bool fold_pad(Graph& graph, const PassContext& context);
bool unflatten_matmul(Graph& graph, const PassContext& context);
bool matmul_add_to_gemm(Graph& graph, const PassContext& context);
bool fuse_conv_bn(Graph& graph, const PassContext& context);
bool fuse_conv_affine(Graph& graph, const PassContext& context);
bool batch_norm_to_affine(Graph& graph, const PassContext& context);
bool fold_scale(Graph& graph, const PassContext& context);
bool merge_scales(Graph& graph, const PassContext& context);
bool dead_code(Graph& graph, const PassContext& context);

bool qlinear_to_qdq(Graph& graph, const PassContext& context);
bool push_dequantize(Graph& graph, const PassContext& context);
bool pull_quantize(Graph& graph, const PassContext& context);
bool quantize_lookup(Graph& graph, const PassContext& context);
bool quantize_conv(Graph& graph, const PassContext& context);
bool quantize_gemm(Graph& graph, const PassContext& context);
bool quantize_add(Graph& graph, const PassContext& context);
bool quantize_pool(Graph& graph, const PassContext& context);
bool dequantize_leftovers(Graph& graph, const PassContext& context);

bool fuse_softmax(Graph& graph, const PassContext& context);
bool to_fused(Graph& graph, const PassContext& context);
bool fuse_residual(Graph& graph, const PassContext& context);
bool fuse_activation(Graph& graph, const PassContext& context);

}  // namespace slipway
