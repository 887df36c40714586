// Probe samples with the candidate's outputs: whoever serves the model later, perhaps with a plan built on another
// machine, can tell whether it still is what was verified.
#include <algorithm>

#include "base/base64.h"
#include "data/npy.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr int64_t kProbes = 32;
constexpr size_t kMaxInputBytes = size_t{2} << 20;  // the report lies beside every version

}  // namespace

void record_probes(Trial& trial, Report& report) {
  size_t sample_bytes = 1;
  for (const Tensor& tensor : trial.example) sample_bytes += tensor.bytes();
  const auto fit = static_cast<int64_t>(std::max<size_t>(kMaxInputBytes / sample_bytes, 1));
  std::vector<int64_t> indices;
  for (const int64_t position : spread(static_cast<int64_t>(trial.planned.size()), std::min(kProbes, fit)))
    indices.push_back(trial.samples[static_cast<size_t>(trial.planned[static_cast<size_t>(position)])]);
  const std::vector<Inputs> requests = trial.feed.requests(Split::kTest, indices, trial.options.threads);
  SideSession session(trial.candidate);
  const auto outputs =
      run_requests(requests, {.rows = trial.unit}, [&](std::span<const Tensor> inputs) { return session.run(inputs); });
  for (size_t i = 0; i < indices.size(); ++i) {
    Probe& probe = report.probes.emplace_back();
    probe.sample = trial.data.sample_name(Split::kTest, indices[i]);
    for (const Tensor& input : requests[i]) probe.inputs.push_back(base64_encode(npy_bytes(input)));
    for (const Tensor& output : outputs[i]) probe.outputs.push_back(base64_encode(npy_bytes(output)));
  }
}

}  // namespace slipway
