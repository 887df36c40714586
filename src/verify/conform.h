#pragma once
#include <string>
#include <vector>

#include "model/onnx/case_folder.h"

namespace slipway {

/// How a case ended, one way to run it.
enum class CaseVerdict {
  kPassed,
  kWrong,        ///< other outputs, an error that the case does not deserve, a crash, no end in time
  kUnsupported,  ///< refused with a sentence that says what is missing
};

struct WayResult {
  std::string way;  ///< "reference", "engine" or "plan"
  CaseVerdict verdict = CaseVerdict::kPassed;
  std::string reason;  ///< empty when passed
};

struct CaseResult {
  std::string name;             ///< of the folder
  std::string op;               ///< operator_of_case(); empty when not even that can be read
  std::vector<WayResult> ways;  ///< in the order asked for
};

struct ConformOptions {
  /// "reference" is evaluate(), "engine" compiles and runs, "plan" builds, saves, opens and runs.
  std::vector<std::string> ways = {"reference", "engine", "plan"};
  CaseTolerance tolerance = {};
  int threads = 1;
  double seconds = 60;  ///< for one case, all ways
};

/// Runs one case (model/onnx/case_folder.h) in a process of its own: what crashes there ends nothing else. Where it
/// dies, each way is tried in a process for itself. Values of operators of chance are not compared.
CaseResult run_conformance_case(const std::string& folder, const ConformOptions& options);

/// What a reason comes down to, for counting: the operator that is missing, or its sentence without the place.
std::string reason_class(const std::string& reason);

}  // namespace slipway
