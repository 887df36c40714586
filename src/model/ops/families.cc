// THE list of operator families. A family's file holds, for each operator, its inference, its reference evaluation and
// its row in the family's table.
#include "model/ops/families.h"

namespace slipway {

std::vector<std::span<const OpSpec>> op_families() {
  // clang-format off
  return {
      convolution_ops(),
      deform_conv_ops(),
      pooling_ops(),
      unfold_ops(),
      region_ops(),
      normalization_ops(),
      attention_ops(),
      linear_attention_ops(),
      activation_ops(),
      loss_ops(),
      matmul_ops(),
      einsum_ops(),
      quantization_ops(),
      recurrent_ops(),
      elementwise_ops(),
      arithmetic_ops(),
      logic_ops(),
      shape_ops(),
      movement_ops(),
      padding_ops(),
      indexing_ops(),
      selection_ops(),
      resize_ops(),
      grid_sample_ops(),
      reduction_ops(),
      generator_ops(),
      signal_ops(),
      string_ops(),
      image_decoder_ops(),
      vectorizer_ops(),
      label_ops(),
      feature_ops(),
      linear_model_ops(),
      tree_ensemble_ops(),
      control_flow_ops(),
      sequence_ops(),
      fused_ops(),
      masked_softmax_ops(),
  };
  // clang-format on
}

}  // namespace slipway
