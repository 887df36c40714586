// From a float model and samples to a QDQ model.
#include "quantize/quantize.h"

#include <algorithm>

#include "base/error.h"
#include "engine/passes/pipeline.h"
#include "model/infer.h"
#include "quantize/ptq/opset.h"

namespace slipway {

Graph prepare_for_quantization(const Graph& model, const QuantizeOptions& options) {
  bool has_codes = model.metadata.contains("slipway.quantization");
  for (NodeId id = 0; id < model.node_limit(); ++id)
    has_codes |= model.node(id).alive && (model.node(id).is("QuantizeLinear") || model.node(id).is("ConvInteger") ||
                                          model.node(id).is("MatMulInteger") || model.node(id).is("QLinearConv"));
  if (has_codes)
    fail(ErrorCode::kInvalidArgument, "The model is quantised already; start from the float model it was made of: '{}'",
         model.name);
  activation_grid(options);  // both fail here rather than after calibration
  weight_grid(options);
  Graph graph = model;
  const PassContext context;
  // Belongs to the engine's own passes, as only quantisation and execution want it; its result is standard ONNX.
  const auto passes = all_passes();
  const auto to_fp32 =
      std::find_if(passes.begin(), passes.end(), [](const Pass& p) { return p.name == "fp16_to_fp32"; });
  SLIPWAY_CHECK(to_fp32 != passes.end());
  if (to_fp32->run(graph, context)) infer_shapes(graph);
  run_passes(graph, {.standard_onnx = true});
  raise_opset(graph, least_opset(options));
  infer_shapes(graph);
  return graph;
}

QuantizationRun quantize(const Graph& model, const CalibrationSource& samples, const QuantizeOptions& options,
                         const CalibrateOptions& calibrate_options) {
  const Graph graph = prepare_for_quantization(model, options);
  Calibration calibration = calibrate(graph, samples, tensors_to_calibrate(graph, options), calibrate_options);
  QuantizedModel quantized = quantize_static(graph, calibration, options);
  return {std::move(quantized.graph), std::move(quantized.report), std::move(calibration)};
}

}  // namespace slipway
