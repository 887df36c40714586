#pragma once
#include <string>
#include <vector>

#include "isolated.h"
#include "model/graph.h"

namespace slipway {

/// FOLDER/model.onnx and FOLDER/test_data_set_0 with what the reference gives.
void write_case(const Graph& graph, const std::vector<Tensor>& inputs, const std::string& folder);

/// For each seed FOLDER/SEED/model.onnx, optimized.onnx and, where it can be quantised, quantized.onnx, the last two as
/// `optimize` and `quantize` write them; test_data_set_0 with the reference's results, those of the quantised model as
/// quantized_N.pb.
void export_seeds(const SeedRange& range, const std::string& folder);

}  // namespace slipway
