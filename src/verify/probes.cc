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
  const size_t sample_bytes = std::max<size_t>(trial.data.input(Split::kTest, trial.samples[0]).bytes(), 1);
  const auto fit = static_cast<int64_t>(std::max<size_t>(kMaxInputBytes / sample_bytes, 1));
  std::vector<Tensor> samples;
  for (const int64_t position : spread(static_cast<int64_t>(trial.samples.size()), std::min(kProbes, fit))) {
    const int64_t index = trial.samples[static_cast<size_t>(position)];
    samples.push_back(trial.data.input(Split::kTest, index));
    report.probes.samples.push_back(trial.data.sample_name(Split::kTest, index));
  }
  const Tensor input = stack(samples);
  Session session(trial.candidate.plan);
  report.probes.count = static_cast<int64_t>(samples.size());
  report.probes.input = base64_encode(npy_bytes(input));
  for (const Tensor& output : run_samples(session, input, trial.unit))
    report.probes.outputs.push_back(base64_encode(npy_bytes(output)));
}

}  // namespace slipway
