#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "model/graph.h"
#include "quantize/qat/qat.h"

namespace slipway {

/// How a model was trained, as it says itself.
struct TrainingFigures {
  bool done = false;
  std::string note = {};  ///< why it can't be shown, where the model says something that can't be read
  QatOptions options = {};
  QatResult result = {};
};
void to_json(nlohmann::json& json, const TrainingFigures& training);
void from_json(const nlohmann::json& json, TrainingFigures& training);

/// From the metadata "slipway.training"; damaged or oversized ones give a note. Never fails.
TrainingFigures training_of(const Graph& model);

/// The report's section as a page of its own: one HTML file that opens anywhere. `model`: the file that was written.
std::string training_html(const TrainingFigures& training, const std::string& model);

}  // namespace slipway
