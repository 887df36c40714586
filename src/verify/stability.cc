// Numerical stability: what extreme inputs do to both models, layer by layer (NaN, infinity, denormals, codes at the
// end of their range), how far real samples saturate the integer layers, and whether the same sample gives the same
// result run after run, with other thread counts and at other places in a batch.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "engine/executor.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr int64_t kBatch = 8;
constexpr size_t kMaxListed = 200;

LayerCounts count_values(const Trial& trial, const Side& side, const std::string& name, const Tensor& value) {
  LayerCounts c{.layer = layer_of(side, name), .elements = value.elements()};
  if (is_float(value.dtype())) {
    const std::vector<float> values = to_floats(value);
    for (const float v : values) {
      c.nan += std::isnan(v);
      c.inf += std::isinf(v);
      c.denormal += std::fpclassify(v) == FP_SUBNORMAL;
    }
    c.all_zero = std::all_of(values.begin(), values.end(), [](float v) { return v == 0; });
  } else if (is_integer(value.dtype()) && bits_of(value.dtype()) <= 16) {
    const bool is_signed = value.dtype() == DType::kInt8 || value.dtype() == DType::kInt16;
    const int64_t span = int64_t{1} << bits_of(value.dtype());
    const int64_t lowest = is_signed ? -span / 2 : 0, highest = lowest + span - 1;
    const auto codes = trial.codes.find(name);
    const int64_t zero = codes != trial.codes.end() ? codes->second.zero_point : 0;
    for (const int64_t v : to_ints(value)) c.saturated += (v == lowest || v == highest) && v != zero;
  }
  return c;
}

ExtremeSide run_extreme(const Trial& trial, const Side& side, SideSession& session, const Inputs& inputs) {
  ExtremeSide result;
  const auto outputs = session.run_observed(inputs, [&](const std::string& name, const Tensor& value) {
    LayerCounts c = count_values(trial, side, name, value);
    result.nan += c.nan;
    result.inf += c.inf;
    result.denormal += c.denormal;
    result.saturated += c.saturated;
    if (c.nan + c.inf > 0 && result.first_nonfinite.empty()) result.first_nonfinite = c.layer;
    if ((c.nan + c.inf + c.denormal + c.saturated > 0 || c.all_zero) && result.layers.size() < kMaxListed)
      result.layers.push_back(std::move(c));
  });
  for (const Tensor& out : outputs)
    for (const float v : to_floats(out)) {
      result.output_nan += std::isnan(v);
      result.output_inf += std::isinf(v);
    }
  return result;
}

struct Stimulus {
  const char* name;
  bool judged;
  Level even, odd;  ///< at even and odd places
  bool floats_only = true;
};

std::vector<Stimulus> stimuli() {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const Level minimum = Level::minimum(), maximum = Level::maximum();
  return {{"the data's minimum", true, minimum, minimum, false},
          {"the data's maximum", true, maximum, maximum, false},
          {"minimum and maximum in turn", true, minimum, maximum, false},
          {"zeros", true, 0, 0, false},
          {"denormals (1e-40)", true, 1e-40, -1e-40},
          {"FLT_MAX", false, FLT_MAX, FLT_MAX},
          {"-FLT_MAX", false, -FLT_MAX, -FLT_MAX},
          {"+Inf", false, inf, inf},
          {"-Inf", false, -inf, -inf},
          {"NaN", false, nan, nan}};
}

void examine_extremes(const Trial& trial, SideSession& reference, SideSession& candidate, Report& report) {
  const Inputs sample = unit_of(trial, trial.example);
  const bool floats =
      std::any_of(sample.begin(), sample.end(), [](const Tensor& tensor) { return is_float(tensor.dtype()); });
  for (const Stimulus& s : stimuli()) {
    if (s.floats_only && !floats) continue;
    const Inputs inputs = filled(trial, sample, report.data.ranges, s.even, s.odd);
    report.stability.extremes.push_back({s.name, s.judged, run_extreme(trial, trial.reference, reference, inputs),
                                         run_extreme(trial, trial.candidate, candidate, inputs)});
  }
}

void examine_saturation(const Trial& trial, SideSession& candidate, std::span<const Inputs> samples,
                        StabilityFigures& figures) {
  std::map<std::string, LayerCounts> layers;
  const auto count = [&](const std::string& name, const Tensor& value) {
    if (!is_integer(value.dtype()) || bits_of(value.dtype()) > 16) return;
    const LayerCounts c = count_values(trial, trial.candidate, name, value);
    LayerCounts& sum = layers[c.layer];
    sum.layer = c.layer;
    sum.elements += c.elements;
    sum.saturated += c.saturated;
  };
  run_requests(samples, {.rows = trial.unit},
               [&](std::span<const Tensor> inputs) { return candidate.run_observed(inputs, count); });
  for (auto& [name, counts] : layers) figures.saturation.push_back(counts);
  const auto share = [](const LayerCounts& c) {
    return static_cast<double>(c.saturated) / static_cast<double>(std::max<int64_t>(c.elements, 1));
  };
  std::stable_sort(figures.saturation.begin(), figures.saturation.end(),
                   [&](const LayerCounts& a, const LayerCounts& b) { return share(a) > share(b); });
}

struct Difference {
  bool equal = true;
  double relative = 0;
  void add(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
      if (a[i].identical(b[i])) continue;
      equal = false;
      const std::vector<float> x = to_floats(a[i]), y = to_floats(b[i]);
      double largest = 0, off = 0;
      for (size_t k = 0; k < x.size(); ++k) {
        if (x[k] == y[k] || (std::isnan(x[k]) && std::isnan(y[k]))) continue;
        off = std::max(off, std::isfinite(x[k]) && std::isfinite(y[k]) ? std::abs(double{x[k]} - y[k]) : INFINITY);
      }
      for (const float v : x) largest = std::max(largest, std::isfinite(v) ? std::abs(double{v}) : 0.0);
      relative = std::max(relative, off == 0 ? 0 : off / std::max(largest, double{FLT_MIN}));
    }
  }
};

Difference repeated(const Trial& trial, const Side& side, SideSession& session, std::span<const Inputs> samples,
                    const std::vector<Tensor>& expected) {
  Difference d;
  SideSession fresh(side);
  for (SideSession* s : {&session, &fresh, &session}) d.add(expected, run_all(*s, samples, trial.unit));
  return d;
}

// The first sample at every place of a batch among others.
Difference at_places(const Trial& trial, const Side& side, std::span<const Inputs> samples,
                     const std::vector<Tensor>& expected) {
  SideSession session(trial, side, kBatch, trial.options.threads);
  const std::vector<Tensor> wanted(expected.begin(),
                                   expected.begin() + static_cast<std::ptrdiff_t>(expected.size() / samples.size()));
  Difference d;
  for (size_t place = 0; place < static_cast<size_t>(kBatch); ++place) {
    std::vector<Inputs> batch;
    for (size_t i = 0; i < static_cast<size_t>(kBatch); ++i)
      batch.push_back(samples[i == place ? 0 : i % samples.size()]);
    const std::vector<Tensor> got = run_all(session, batch, kBatch);
    const auto from = got.begin() + static_cast<std::ptrdiff_t>(place * wanted.size());
    d.add(wanted, {from, from + static_cast<std::ptrdiff_t>(wanted.size())});
  }
  return d;
}

void examine_variations(const Trial& trial, SideSession& reference, SideSession& candidate,
                        std::span<const Inputs> samples, StabilityFigures& figures) {
  const auto a = run_all(reference, samples, trial.unit), b = run_all(candidate, samples, trial.unit);
  const auto add = [&](std::string what, const Difference& x, const Difference& y) {
    figures.variations.push_back({std::move(what), x.equal, y.equal, x.relative, y.relative});
  };
  add("run again and in a new session", repeated(trial, trial.reference, reference, samples, a),
      repeated(trial, trial.candidate, candidate, samples, b));
  for (const int threads : {1, 2}) {
    SideSession other_a(trial, trial.reference, trial.unit, threads);
    SideSession other_b(trial, trial.candidate, trial.unit, threads);
    Difference x, y;
    x.add(a, run_all(other_a, samples, trial.unit));
    y.add(b, run_all(other_b, samples, trial.unit));
    add(fmt::format("{} thread{}", threads, threads == 1 ? "" : "s"), x, y);
  }
  if (trial.batchable)
    add(fmt::format("every place in a batch of {}", kBatch), at_places(trial, trial.reference, samples, a),
        at_places(trial, trial.candidate, samples, b));
}

}  // namespace

void examine_stability(Trial& trial, Report& report) {
  Progress progress("numerical stability", 3, trial.options.quiet);
  SideSession reference(trial.reference), candidate(trial.candidate);
  examine_extremes(trial, reference, candidate, report);
  progress.step();
  const std::vector<Inputs> samples = planned_requests(trial, kBatch);
  examine_saturation(trial, candidate, samples, report.stability);
  progress.step();
  examine_variations(trial, reference, candidate, samples, report.stability);
  progress.step();
}

}  // namespace slipway
