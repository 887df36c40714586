#pragma once
#include "quantize/calibrate/calibrate.h"
#include "quantize/ptq/quantize_static.h"

namespace slipway {

/// A copy of the model as quantisation wants it: computed in FP32, cleaned up, BatchNorm folded, still standard ONNX at
/// an opset that QDQ fits. calibrate() and quantize_static() take this graph.
Graph prepare_for_quantization(const Graph& model, const QuantizeOptions& options = {});

struct QuantizationRun {
  Graph graph;  ///< QDQ
  QuantizeReport report;
  Calibration calibration;
};

/// All of it: prepare, calibrate, quantise. Fails as these do.
QuantizationRun quantize(const Graph& model, const CalibrationSource& samples, const QuantizeOptions& options = {},
                         const CalibrateOptions& calibrate_options = {});

}  // namespace slipway
