// Probe samples with the candidate's outputs: whoever serves the model later, perhaps with a plan built on another
// machine, can tell whether it still is what was verified.
#include <algorithm>

#include "data/npy.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr int64_t kProbes = 32;
constexpr size_t kMaxInputBytes = size_t{16} << 20;

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t triple = 0;
    for (size_t k = 0; k < 3; ++k)
      triple = triple << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? digits[triple >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

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
  report.probes.input = base64(npy_bytes(input));
  for (const Tensor& output : run_samples(session, input, trial.unit))
    report.probes.outputs.push_back(base64(npy_bytes(output)));
}

}  // namespace slipway
