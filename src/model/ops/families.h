#pragma once
#include <span>
#include <vector>

#include "model/op.h"

namespace slipway {

/// One function a family, in its file; THE list is op_families().
std::span<const OpSpec> convolution_ops();
std::span<const OpSpec> deform_conv_ops();
std::span<const OpSpec> pooling_ops();
std::span<const OpSpec> unfold_ops();
std::span<const OpSpec> region_ops();
std::span<const OpSpec> normalization_ops();
std::span<const OpSpec> attention_ops();
std::span<const OpSpec> linear_attention_ops();
std::span<const OpSpec> activation_ops();
std::span<const OpSpec> loss_ops();
std::span<const OpSpec> matmul_ops();
std::span<const OpSpec> einsum_ops();
std::span<const OpSpec> quantization_ops();
std::span<const OpSpec> recurrent_ops();
std::span<const OpSpec> elementwise_ops();
std::span<const OpSpec> arithmetic_ops();
std::span<const OpSpec> logic_ops();
std::span<const OpSpec> shape_ops();
std::span<const OpSpec> movement_ops();
std::span<const OpSpec> padding_ops();
std::span<const OpSpec> indexing_ops();
std::span<const OpSpec> selection_ops();
std::span<const OpSpec> resize_ops();
std::span<const OpSpec> grid_sample_ops();
std::span<const OpSpec> reduction_ops();
std::span<const OpSpec> generator_ops();
std::span<const OpSpec> signal_ops();
std::span<const OpSpec> string_ops();
std::span<const OpSpec> image_decoder_ops();
std::span<const OpSpec> vectorizer_ops();
std::span<const OpSpec> label_ops();
std::span<const OpSpec> feature_ops();
std::span<const OpSpec> linear_model_ops();
std::span<const OpSpec> tree_ensemble_ops();
std::span<const OpSpec> control_flow_ops();
std::span<const OpSpec> sequence_ops();
std::span<const OpSpec> fused_ops();
std::span<const OpSpec> masked_softmax_ops();

std::vector<std::span<const OpSpec>> op_families();

}  // namespace slipway
