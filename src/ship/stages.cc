// The resumable road. Each stage's key is SHA-256 over the previous stage's key, its name and its inputs, so that a
// change anywhere invalidates exactly what comes after it. Invariant: a stage stands in the state only after its files
// are whole on disk, and with their digests, so that a file lost or edited later makes the stage run again.
#include "ship/stages.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr uint64_t kMaxStateBytes = uint64_t{16} << 20;

struct StageRecord {
  std::string key, figure;
  double seconds = 0;
  std::map<std::string, std::string> files;  ///< SHA-256 by path
  StageValues values;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StageRecord, key, figure, seconds, files, values)

using State = std::map<std::string, StageRecord>;

State load_state(const std::string& path) {
  if (!file_exists(path)) return {};
  try {
    const json j = json::parse(read_text_file(path, kMaxStateBytes));
    if (j.value("slipway_ship", 0) == kFormat) return j.at("stages").get<State>();
  } catch (const json::exception&) {  // damaged: everything is done again
  }
  return {};
}

void save_state(const State& state, const std::string& path) {
  const json j = {{"slipway_ship", kFormat}, {"stages", state}};
  write_file(path, std::string_view(j.dump(1, ' ', false, json::error_handler_t::replace) + "\n"));
}

bool files_unchanged(const StageRecord& record) {
  return std::all_of(record.files.begin(), record.files.end(), [](const auto& file) {
    try {
      return file_exists(file.first) && sha256_of_file(file.first) == file.second;
    } catch (const Error&) {
      return false;
    }
  });
}

std::string key_of(const Stage& stage, const std::string& before) {
  json parts = {before, SLIPWAY_VERSION, stage.name};
  for (const std::string& input : stage.inputs) parts.push_back(input);
  return sha256_hex(parts.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace

RoadResult run_stages(const std::vector<Stage>& stages, const std::string& state_path, const std::string& from,
                      const std::function<void(const StageReport&)>& on_stage) {
  std::string names;
  for (const Stage& stage : stages) names += (names.empty() ? "" : ", ") + stage.name;
  if (!from.empty() && std::none_of(stages.begin(), stages.end(), [&](const Stage& s) { return s.name == from; }))
    fail(ErrorCode::kInvalidArgument, "There is no such stage on this road; name one of {}: '{}'", names, from);
  State state = load_state(state_path);
  RoadResult result;
  std::string key;
  bool again = false;
  for (const Stage& stage : stages) {
    throw_if_interrupted();
    key = key_of(stage, key);
    again = again || stage.name == from;
    const auto known = state.find(stage.name);
    const bool done =
        !again && !stage.always && known != state.end() && known->second.key == key && files_unchanged(known->second);
    StageReport report{.name = stage.name};
    if (done) {
      report = {stage.name, StageStatus::kAlreadyDone, known->second.seconds, known->second.figure};
      for (const auto& [name, value] : known->second.values) result.values[name] = value;
    } else {
      again = again || !stage.always;
      on_stage(report);
      const int64_t start = now_ns();
      StageOutcome outcome = stage.run(result.values);
      report.seconds = static_cast<double>(now_ns() - start) * 1e-9;
      report.status = outcome.passed ? StageStatus::kDone : StageStatus::kFailed;
      report.figure = outcome.figure;
      for (const auto& [name, value] : outcome.values) result.values[name] = value;
      if (!stage.always) {
        state.erase(stage.name);
        if (outcome.passed) {
          StageRecord record{
              .key = key, .figure = outcome.figure, .seconds = report.seconds, .values = std::move(outcome.values)};
          for (const std::string& file : outcome.files) record.files[file] = sha256_of_file(file);
          state[stage.name] = std::move(record);
        }
        save_state(state, state_path);
      }
    }
    result.stages.push_back(report);
    on_stage(report);
    if (report.status == StageStatus::kFailed) {
      result.passed = false;
      result.reason = report.figure;
      return result;
    }
  }
  return result;
}

}  // namespace slipway
