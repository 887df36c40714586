// Records of a training: any text is read within its bounds or gives a note, and what was read can be written.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "verify/training.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  slipway::Graph model;
  model.metadata["slipway.training"] = std::string(reinterpret_cast<const char*>(data), size);
  const slipway::TrainingFigures training = slipway::training_of(model);
  SLIPWAY_CHECK(training.done == training.note.empty());
  nlohmann::json json;
  to_json(json, training);
  SLIPWAY_CHECK(json.at("done") == training.done);
  return 0;
}
