// How a model was trained, out of the metadata that quantisation-aware training leaves in it. The metadata is as
// untrusted as the model: bounded before it is parsed, and again in what it lists.
#include "verify/training.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = size_t{8} << 20;
constexpr size_t kMaxEpochs = 5000, kMaxDisagreements = 1000, kMaxText = 1000;

void require_bounded(const QatResult& r) {
  bool longest =
      r.stopped.size() <= kMaxText && r.output.size() <= 4 * kMaxText && r.agreement.first_unequal.size() <= kMaxText;
  for (const QatDisagreement& d : r.agreement.disagreements) longest = longest && d.sample.size() <= 4 * kMaxText;
  if (r.epochs.size() > kMaxEpochs || r.agreement.disagreements.size() > kMaxDisagreements || !longest)
    fail(ErrorCode::kInvalidArgument, "more epochs, samples or text than a training writes");
}

}  // namespace

TrainingFigures training_figures(const QatOptions& options, const QatResult& result) {
  return {.done = true, .record = json{{"options", to_json(options)}, {"result", to_json(result)}}.dump()};
}

TrainingFigures training_of(const Graph& model, uint64_t float_bytes, uint64_t bytes) {
  const auto found = model.metadata.find("slipway.training");
  if (found == model.metadata.end()) return {};
  std::string why = "too long";
  try {
    if (found->second.size() <= kMaxBytes) {
      const json j = json::parse(found->second);
      if (!j.at("options").is_object() || !j.at("result").at("epochs").is_array())
        fail(ErrorCode::kInvalidArgument, "no list of epochs");
      QatResult result = qat_result_from_json(j.at("result"));
      require_bounded(result);
      if (float_bytes > 0) result.float_bytes = float_bytes;
      if (bytes > 0) result.bytes = bytes;
      return training_figures(qat_options_from_json(j.at("options")), result);
    }
  } catch (const Error& error) {
    why = error.what();
  } catch (const json::exception& error) {
    why = error.what();
  }
  return {.note = "The model says that it was trained, but the record can't be read: " +
                  why.substr(0, std::min(why.size(), kMaxText))};
}

}  // namespace slipway
