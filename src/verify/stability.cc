// Numerical stability: what extreme inputs do to both models, layer by layer (NaN, infinity, denormals, codes at the
// end of their range), how far real samples saturate the integer layers, and whether the same sample gives the same
// result run after run, with other thread counts and at other places in a batch.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
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

ExtremeSide run_extreme(const Trial& trial, const Side& side, Session& session, const Tensor& input) {
  ExtremeSide result;
  const auto outputs = session.run_observed(std::span(&input, 1), [&](const std::string& name, const Tensor& value) {
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
  double even, odd;  ///< values at even and odd places
  bool floats_only = true;
};

std::vector<Stimulus> stimuli(const DataFacts& data) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  return {{"the data's minimum", true, data.minimum, data.minimum, false},
          {"the data's maximum", true, data.maximum, data.maximum, false},
          {"minimum and maximum in turn", true, data.minimum, data.maximum, false},
          {"zeros", true, 0, 0, false},
          {"denormals (1e-40)", true, 1e-40, -1e-40},
          {"FLT_MAX", false, FLT_MAX, FLT_MAX},
          {"-FLT_MAX", false, -FLT_MAX, -FLT_MAX},
          {"+Inf", false, inf, inf},
          {"-Inf", false, -inf, -inf},
          {"NaN", false, nan, nan}};
}

void examine_extremes(const Trial& trial, Session& reference, Session& candidate, Report& report) {
  const PortInfo& port = candidate.plan().inputs()[0];
  for (const Stimulus& s : stimuli(report.data)) {
    if (s.floats_only && !is_float(port.dtype)) continue;
    std::vector<double> values(static_cast<size_t>(element_count(port.dims)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = i % 2 == 0 ? s.even : s.odd;
    const Tensor input = from_doubles(port.dtype, port.dims, values);
    report.stability.extremes.push_back({s.name, s.judged, run_extreme(trial, trial.reference, reference, input),
                                         run_extreme(trial, trial.candidate, candidate, input)});
  }
}

Tensor some_samples(const Trial& trial, int64_t count) {
  std::vector<Tensor> samples;
  for (const int64_t position : spread(static_cast<int64_t>(trial.samples.size()), count))
    samples.push_back(trial.data.input(Split::kTest, trial.samples[static_cast<size_t>(position)]));
  return stack(samples);
}

void examine_saturation(const Trial& trial, Session& candidate, const Tensor& samples, StabilityFigures& figures) {
  std::map<std::string, LayerCounts> layers;
  for (int64_t first = 0; first < samples.dims()[0]; first += trial.unit) {
    const Tensor input = rows_of(samples, first, trial.unit);
    candidate.run_observed(std::span(&input, 1), [&](const std::string& name, const Tensor& value) {
      if (!is_integer(value.dtype()) || bits_of(value.dtype()) > 16) return;
      const LayerCounts c = count_values(trial, trial.candidate, name, value);
      LayerCounts& sum = layers[c.layer];
      sum.layer = c.layer;
      sum.elements += c.elements;
      sum.saturated += c.saturated;
    });
  }
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

Session untuned(const Trial& trial, const Side& side, int64_t batch, int threads) {
  BuildOptions options = build_options(trial, side, batch, threads);
  options.tune = false;
  return Session(Plan::build(side.graph, options));
}

Difference repeated(const Trial& trial, const Side& side, Session& session, const Tensor& samples,
                    const std::vector<Tensor>& expected) {
  Difference d;
  Session fresh(side.plan);
  for (Session* s : {&session, &fresh, &session}) d.add(expected, run_samples(*s, samples, trial.unit));
  return d;
}

// The first sample at every place of a batch among others.
Difference at_places(const Trial& trial, const Side& side, const Tensor& samples, const std::vector<Tensor>& expected) {
  Session session = untuned(trial, side, kBatch, trial.options.threads);
  Difference d;
  const Tensor sample = rows_of(samples, 0, 1);
  for (int64_t place = 0; place < kBatch; ++place) {
    std::vector<Tensor> parts;
    for (int64_t i = 0; i < kBatch; ++i)
      parts.push_back((i == place ? sample : rows_of(samples, i % samples.dims()[0], 1)).reshaped(trial.sample_dims));
    const Tensor input = stack(parts);
    std::vector<Tensor> got, wanted;
    for (const Tensor& out : session.run(std::span(&input, 1)))
      got.push_back(rows_of(out, place * out.dims()[0] / kBatch, out.dims()[0] / kBatch));
    for (const Tensor& out : expected) wanted.push_back(rows_of(out, 0, out.dims()[0] / samples.dims()[0]));
    d.add(wanted, got);
  }
  return d;
}

void examine_variations(const Trial& trial, Session& reference, Session& candidate, const Tensor& samples,
                        StabilityFigures& figures) {
  const auto a = run_samples(reference, samples, trial.unit), b = run_samples(candidate, samples, trial.unit);
  const auto add = [&](std::string what, const Difference& x, const Difference& y) {
    figures.variations.push_back({std::move(what), x.equal, y.equal, x.relative, y.relative});
  };
  add("run again and in a new session", repeated(trial, trial.reference, reference, samples, a),
      repeated(trial, trial.candidate, candidate, samples, b));
  for (const int threads : {1, 2}) {
    Session other_a = untuned(trial, trial.reference, trial.unit, threads);
    Session other_b = untuned(trial, trial.candidate, trial.unit, threads);
    Difference x, y;
    x.add(a, run_samples(other_a, samples, trial.unit));
    y.add(b, run_samples(other_b, samples, trial.unit));
    add(fmt::format("{} thread{}", threads, threads == 1 ? "" : "s"), x, y);
  }
  if (trial.batchable)
    add(fmt::format("every place in a batch of {}", kBatch), at_places(trial, trial.reference, samples, a),
        at_places(trial, trial.candidate, samples, b));
}

}  // namespace

void examine_stability(Trial& trial, Report& report) {
  Progress progress("numerical stability", 3, trial.options.quiet);
  Session reference(trial.reference.plan), candidate(trial.candidate.plan);
  examine_extremes(trial, reference, candidate, report);
  progress.step();
  const Tensor samples = some_samples(trial, kBatch);
  examine_saturation(trial, candidate, samples, report.stability);
  progress.step();
  examine_variations(trial, reference, candidate, samples, report.stability);
  progress.step();
}

}  // namespace slipway
