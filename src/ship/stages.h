#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace slipway {

/// What later stages need of earlier ones, by name: paths, the published version, figures.
using StageValues = std::map<std::string, std::string>;

struct StageOutcome {
  bool passed = true;
  std::string figure;              ///< the key figure in a few words; why it stops when it did not pass
  std::vector<std::string> files;  ///< paths of what it made: the stage is done as long as they stay as they are
  StageValues values = {};         ///< added to those of the stages before
};

/// One stage of a road that can be resumed.
struct Stage {
  std::string name;
  /// Digests and options it depends on, beyond those of the stages before it.
  std::vector<std::string> inputs;
  /// Fails with any Error, which ends the road; what was finished stays so.
  std::function<StageOutcome(const StageValues& values)> run;
  bool always = false;  ///< cheap, or true only now: never taken as done
};

enum class StageStatus { kRunning, kDone, kAlreadyDone, kFailed };

struct StageReport {
  std::string name;
  StageStatus status = StageStatus::kRunning;
  double seconds = 0;
  std::string figure;
};

struct RoadResult {
  bool passed = true;
  std::string reason;  ///< of the stage that did not pass, the last in `stages`
  std::vector<StageReport> stages;
  StageValues values;
};

/// Runs the stages in order. `state_path` (JSON, replaced whole after each stage) remembers the finished ones with a
/// key over their inputs and all before them, and the digests of their files: a stage whose key and files are still the
/// same is already done; the first that changed runs again, and all after it. `from` (a stage's name; empty: none)
/// makes that stage and those after it run whatever the state says. Fails with kInvalidArgument for an unknown `from`;
/// a state file that can't be read counts as none.
RoadResult run_stages(const std::vector<Stage>& stages, const std::string& state_path, const std::string& from,
                      const std::function<void(const StageReport&)>& on_stage);

}  // namespace slipway
