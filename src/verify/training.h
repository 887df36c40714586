#pragma once
#include "model/graph.h"
#include "quantize/qat/qat.h"
#include "report/report.h"

namespace slipway {

TrainingFigures training_figures(const QatOptions& options, const QatResult& result);

/// From the metadata "slipway.training"; damaged or oversized ones give a note. Never fails. The sizes, of the
/// original's file and the model's, replace those of the record where they are known.
TrainingFigures training_of(const Graph& model, uint64_t float_bytes = 0, uint64_t bytes = 0);

}  // namespace slipway
