// The verdict: figures against the policy's thresholds, each with a sentence that a person can act on. A failure of
// accuracy or cosine names the worst layer and where its error starts. Comparisons are written so that NaN fails.
#include "verify/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace slipway {
namespace {

constexpr double kSignificant = 0.05, kMiB = 1024 * 1024;

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }
std::string mebibytes(double bytes) { return fmt::format("{:.2f} MiB", bytes / kMiB); }
Verdict pass_if(bool good) { return good ? Verdict::kPass : Verdict::kFail; }

/// Where the error is, for the sentences of failures.
std::string location(const LayerFigures& layers) {
  if (layers.layers.empty()) return "";
  std::string text = fmt::format(" Worst layer: {}, cosine {:.3g}", layers.worst, layers.worst_cosine);
  if (!layers.origin.empty())
    text += layers.origin == layers.worst ? ", where the error starts"
                                          : fmt::format("; the error starts at {}", layers.origin);
  return text + ".";
}

/// p of chance above which a model counts as no better than that.
constexpr double kSure = 0.001;

class Judge {
 public:
  explicit Judge(Report& report) : r_(report), p_(report.policy) {}

  void run() {
    r_.checks.clear();
    weights();
    if (r_.accuracy.classifier) accuracy();
    outputs();
    performance();
    stability();
    if (r_.engine.done) engine();
    if (r_.simulation.done) simulation();
    conclude();
  }

 private:
  void add(Check check) { r_.checks.push_back(std::move(check)); }

  void weights() {
    const int64_t fresh = r_.candidate.nonfinite_weights - r_.reference.nonfinite_weights;
    add({"model.weights", "New NaN or infinite weights", pass_if(fresh <= 0),
         static_cast<double>(std::max<int64_t>(fresh, 0)), 0, "at most", "",
         fresh <= 0 ? "Every weight is a number, as in the original."
                    : fmt::format("{} weights of the candidate are NaN or infinite, first in {}.", fresh,
                                  r_.candidate.nonfinite_place)});
  }

  void accuracy() {
    const AccuracyFigures& a = r_.accuracy;
    const double limit = p_.accuracy.max_drop_points;
    const bool good = a.drop_points < limit || a.drop_points <= 0;
    const bool few = a.samples < p_.accuracy.min_samples;
    std::string sentence = fmt::format(
        "Top-1 went from {} to {} on {} samples: {:.2f} points {}, less than {:g} may be lost (McNemar p = {:.2g}).",
        percent(a.reference.accuracy), percent(a.candidate.accuracy), a.samples, std::abs(a.drop_points),
        a.drop_points < 0 ? "gained" : "lost", limit, a.mcnemar_p);
    if (!good) sentence += location(r_.layers);
    if (good && few) sentence += fmt::format(" Fewer than {} samples prove little.", p_.accuracy.min_samples);
    add({"accuracy.drop", "Top-1 accuracy lost",
         !good ? Verdict::kFail
         : few ? Verdict::kInconclusive
               : Verdict::kPass,
         a.drop_points, limit, "below", "points", sentence});
    floors(few);
    classes();
    edge_cases();
    if (p_.accuracy.min_agreement)
      add({"accuracy.agreement", "Same predictions", pass_if(a.agreement >= *p_.accuracy.min_agreement),
           100 * a.agreement, 100 * *p_.accuracy.min_agreement, "at least", "%",
           fmt::format("Both models predict the same class on {} of the samples.", percent(a.agreement))});
  }

  void floors(bool few) {
    const AccuracyFigures& a = r_.accuracy;
    if (p_.accuracy.require_better_than_chance) {
      const double p = a.reference.chance_p, q = a.candidate.chance_p;
      const bool original = std::isnan(p) || (!std::isnan(q) && p >= q);
      const ClassifierScore& s = original ? a.reference : a.candidate;
      const bool good = s.chance_p < kSure;
      std::string sentence = fmt::format(
          "The {} has {} of {} samples right; predictions that have nothing to do with the labels would have {} (p of "
          "chance = {:.2g}).",
          original ? "original" : "candidate", percent(s.accuracy), a.samples, percent(s.chance), s.chance_p);
      if (!s.chance_known)
        sentence = "All judged samples have the same label, so nothing tells the models from chance; judge others.";
      else if (!good && few)
        sentence += fmt::format(" Fewer than {} samples prove little.", p_.accuracy.min_samples);
      else if (!good)
        sentence +=
            " The pre-processing (scale, mean, std, colour order, layout) or the label map is probably wrong; see "
            "`slipway data preview`.";
      add({"accuracy.chance", "Better than chance",
           good                     ? Verdict::kPass
           : few || !s.chance_known ? Verdict::kInconclusive
                                    : Verdict::kFail,
           100 * s.accuracy, 100 * s.chance, "above", "%", sentence});
    }
    if (p_.accuracy.min_top1_percent) {
      const double limit = *p_.accuracy.min_top1_percent,
                   top1 = 100 * static_cast<double>(a.candidate.correct) / static_cast<double>(a.samples);
      add({"accuracy.top1", "Top-1 accuracy", pass_if(top1 >= limit), top1, limit, "at least", "%",
           fmt::format("The candidate has {} of {} samples right, the original {}; {:g} % are asked for.",
                       percent(a.candidate.accuracy), a.samples, percent(a.reference.accuracy), limit)});
    }
  }

  void classes() {
    const ClassRow* worst = nullptr;
    const ClassRow* beyond = nullptr;
    const double limit = p_.accuracy.max_class_drop_points;
    const auto drop = [](const ClassRow& row) { return 100 * (row.reference_recall - row.candidate_recall); };
    std::vector<std::string> minorities;
    for (const ClassRow& row : r_.accuracy.rows) {
      if (worst == nullptr || drop(row) > drop(*worst)) worst = &row;
      const bool fails = drop(row) > limit && row.mcnemar_p < kSignificant;
      if (fails && (beyond == nullptr || drop(row) > drop(*beyond))) beyond = &row;
      if (row.minority && minorities.size() < 3)
        minorities.push_back(
            fmt::format("{} {} to {}", row.name, percent(row.reference_recall), percent(row.candidate_recall)));
    }
    if (worst == nullptr) return;
    const ClassRow& shown = beyond != nullptr ? *beyond : *worst;
    std::string sentence = fmt::format(
        "Recall of class {} went from {} to {}, the largest loss ({} samples, McNemar p = {:.2g}).", shown.name,
        percent(shown.reference_recall), percent(shown.candidate_recall), shown.support, shown.mcnemar_p);
    if (!minorities.empty()) sentence += fmt::format(" Fewest samples: {}.", fmt::join(minorities, ", "));
    add({"accuracy.classes", "Recall lost by a class", pass_if(beyond == nullptr), drop(shown), limit, "at most",
         "points", sentence});
  }

  void edge_cases() {
    const EdgeCase* worst = nullptr;
    const EdgeCase* beyond = nullptr;
    const double limit = p_.accuracy.max_edge_case_drop_points;
    for (const EdgeCase& e : r_.accuracy.edge_cases) {
      if (worst == nullptr || e.drop_points > worst->drop_points) worst = &e;
      if (e.drop_points > limit && e.mcnemar_p < kSignificant &&
          (beyond == nullptr || e.drop_points > beyond->drop_points))
        beyond = &e;
    }
    if (worst == nullptr) return;
    const EdgeCase& shown = beyond != nullptr ? *beyond : *worst;
    add({"accuracy.edge_cases", "Accuracy lost on spoiled samples", pass_if(beyond == nullptr), shown.drop_points,
         limit, "at most", "points",
         fmt::format("On spoiled samples ({}), top-1 went from {} to {} ({} samples, McNemar p = {:.2g}).", shown.name,
                     percent(shown.reference_accuracy), percent(shown.candidate_accuracy), shown.samples,
                     shown.mcnemar_p)});
  }

  template <typename Figure>
  const OutputDistance* worst_output(const Figure& figure, bool low_is_bad) const {
    const OutputDistance* worst = nullptr;
    for (const OutputDistance& o : r_.outputs) {
      const double a = figure(o), b = worst == nullptr ? 0 : figure(*worst);
      if (worst == nullptr || std::isnan(a) || (low_is_bad ? a < b : a > b)) worst = &o;
    }
    return worst;
  }

  void outputs() {
    const auto cosine = [](const OutputDistance& o) { return o.cosine_mean; };
    if (const OutputDistance* o = worst_output(cosine, true)) {
      const bool good = o->cosine_mean > p_.output.min_cosine;
      add({"output.cosine", "Cosine similarity of the output", pass_if(good), o->cosine_mean, p_.output.min_cosine,
           "above", "",
           fmt::format("Output '{}' has cosine {:.4g} with the original's, {:.4g} for the worst sample ({}).{}",
                       o->name, o->cosine_mean, o->cosine_min, o->worst_sample, good ? "" : location(r_.layers))});
    }
    const auto limit = [&](const char* id, const char* title, const std::optional<double>& threshold, auto figure) {
      const OutputDistance* o = worst_output(figure, false);
      if (!threshold || o == nullptr) return;
      const bool good = figure(*o) <= *threshold;
      add({id, title, pass_if(good), figure(*o), *threshold, "at most", "",
           fmt::format("Output '{}': {:.4g}.{}", o->name, figure(*o), good ? "" : location(r_.layers))});
    };
    limit("output.kl", "KL divergence of the output", p_.output.max_kl, [](const auto& o) { return o.kl_mean; });
    limit("output.mse", "Mean squared error of the output", p_.output.max_mse, [](const auto& o) { return o.mse; });
    finite_outputs();
  }

  void finite_outputs() {
    int64_t fresh = 0, all = 0, lost = 0;
    for (const OutputDistance& o : r_.outputs) {
      all += o.candidate_nonfinite;
      fresh += o.new_nonfinite;
      lost += o.lost_nonfinite;
    }
    std::string sentence = all == 0 ? "No output of the candidate is NaN or infinite on the samples."
                                    : fmt::format(
                                          "{} outputs of the candidate are NaN or infinite on the samples, {} of them "
                                          "where the original's are not.",
                                          all, fresh);
    if (all > fresh) sentence += " The others are so in the original too, and are left out of the distances.";
    if (lost > 0) sentence += fmt::format(" {} that are so in the original are numbers in the candidate.", lost);
    for (const LayerDistance& layer : r_.layers.layers)
      if (layer.candidate_nonfinite > layer.reference_nonfinite) {
        sentence += fmt::format(" The first layer with such values: {}.", layer.layer);
        break;
      }
    add({"output.finite", "New NaN or infinite outputs", pass_if(fresh == 0), static_cast<double>(fresh), 0, "at most",
         "", sentence});
  }

  void performance() {
    const PerformanceFigures& f = r_.performance;
    const double limit = p_.performance.max_latency_ratio;
    const auto speed = fmt::format(
        "The candidate takes {:.3f} of the original's time ({:.0f} % interval {:.3f} to "
        "{:.3f} over {} interleaved rounds): median {:.3f} ms against {:.3f} ms.",
        f.ratio, 100 * p_.performance.confidence, f.ratio_low, f.ratio_high, f.rounds, f.candidate.warm.p50_ms,
        f.reference.warm.p50_ms);
    Verdict verdict = Verdict::kPass;
    std::string more;
    if (f.rounds < p_.performance.min_rounds) {
      verdict = Verdict::kInconclusive;
      more = fmt::format(" Fewer than {} rounds prove nothing; measure longer (--seconds).", p_.performance.min_rounds);
    } else if (f.ratio_low > limit && f.threads > 1 && f.preemptions_per_s > kCrowded * f.threads) {
      verdict = Verdict::kInconclusive;
      more = fmt::format(
          " Other work took the CPUs away {:.0f} times a second, which strikes {} threads that wait for each other "
          "unevenly; measure on a quieter machine or with fewer threads.",
          f.preemptions_per_s, f.threads);
    } else if (f.ratio_low > limit) {
      verdict = Verdict::kFail;
    } else if (!(f.ratio <= limit)) {
      verdict = Verdict::kInconclusive;
      more = " The interval contains the threshold; measure longer (--seconds) or on a quieter machine.";
    }
    add({"performance.latency", "Latency against the original", verdict, f.ratio, limit, "at most", "x", speed + more});

    const auto a = static_cast<double>(f.reference.peak_bytes), b = static_cast<double>(f.candidate.peak_bytes);
    const double increase = 100 * (b - a) / std::max(a, 1.0);
    const bool slack = b - a <= p_.performance.memory_slack_mib * kMiB;
    add({"performance.memory", "Peak memory above the original's",
         pass_if(increase <= p_.performance.max_memory_increase_percent || slack), increase,
         p_.performance.max_memory_increase_percent, "at most", "%",
         fmt::format("The candidate's process grows by {}, the original's by {}.{}", mebibytes(b), mebibytes(a),
                     increase > p_.performance.max_memory_increase_percent && slack
                         ? fmt::format(" A difference within {:g} MiB is not judged.", p_.performance.memory_slack_mib)
                         : "")});
    if (p_.performance.max_file_increase_percent) {
      const auto x = static_cast<double>(r_.reference.file_bytes), y = static_cast<double>(r_.candidate.file_bytes);
      const double growth = 100 * (y - x) / std::max(x, 1.0);
      add({"performance.file", "File size above the original's",
           pass_if(growth <= *p_.performance.max_file_increase_percent), growth,
           *p_.performance.max_file_increase_percent, "at most", "%",
           fmt::format("The candidate's file has {}, the original's {}.", mebibytes(y), mebibytes(x))});
    }
  }

  void stability() {
    const StabilityFigures& s = r_.stability;
    extremes();
    double variation = 0;
    std::string which = "run to run";
    for (size_t i = 0; i < s.variations.size(); ++i) {
      const Variation& v = s.variations[i];
      if (i == 0 && p_.stability.require_reproducible)
        add({"stability.reproducible", "Same bits run after run", pass_if(v.candidate_equal), v.candidate_relative, 0,
             "at most", "",
             v.candidate_equal ? "The same samples gave the same bits again, in the same session and in a new one."
                               : "The same samples gave other bits when run again; look for a race or for state."});
      if (!std::isnan(variation) && !(v.candidate_relative <= variation)) {
        variation = v.candidate_relative;
        which = v.what;
      }
    }
    if (!s.variations.empty())
      add({"stability.variation", "Variation over threads and batch places",
           pass_if(variation <= p_.stability.max_variation), variation, p_.stability.max_variation, "at most", "",
           variation == 0
               ? "Thread counts and places in a batch change no bit."
               : fmt::format("Outputs change by up to {:.2g} of the largest output ({}).", variation, which)});
    if (p_.stability.max_saturated_percent && !s.saturation.empty()) {
      const LayerCounts& worst = s.saturation[0];
      const double share =
          100 * static_cast<double>(worst.saturated) / static_cast<double>(std::max<int64_t>(worst.elements, 1));
      add({"stability.saturation", "Saturated codes in a layer", pass_if(share <= *p_.stability.max_saturated_percent),
           share, *p_.stability.max_saturated_percent, "at most", "%",
           fmt::format("{} of {} codes of layer {} stand at the end of their range on real samples.", worst.saturated,
                       worst.elements, worst.layer)});
    }
  }

  void extremes() {
    int64_t fresh = 0;
    std::string where;
    for (const Extreme& e : r_.stability.extremes) {
      const bool broken = e.candidate.output_nan + e.candidate.output_inf > 0;
      if (!e.judged || !broken || e.reference.output_nan + e.reference.output_inf > 0) continue;
      if (fresh++ == 0)
        where = fmt::format(" {} makes the output NaN or infinite, first in layer {}.", e.name,
                            e.candidate.first_nonfinite);
    }
    if (r_.stability.extremes.empty()) return;
    add({"stability.extremes", "Extremes that break only the candidate",
         pass_if(fresh <= p_.stability.max_new_nonfinite), static_cast<double>(fresh),
         static_cast<double>(p_.stability.max_new_nonfinite), "at most", "",
         fresh == 0 ? "No extreme of the input that the original survives makes the candidate's output NaN or infinite."
                    : fmt::format("{} of the judged extremes break the candidate only.{}", fresh, where)});
  }

  void engine() {
    const EngineFigures& e = r_.engine;
    const EngineRun *step = nullptr, *output = nullptr;
    const auto worse = [](double a, double b) { return !std::isnan(b) && !(a <= b); };
    const auto share = [](const EngineRun& run) { return run.output_error / run.output_bound; };
    for (const auto* runs : {&e.reference, &e.candidate})
      for (const EngineRun& run : *runs) {
        if (step == nullptr || worse(run.step_error, step->step_error)) step = &run;
        if (run.output_bound > 0 && (output == nullptr || worse(share(run), share(*output)))) output = &run;
      }
    if (step == nullptr) return;
    const auto model = [&](const EngineRun* run) {
      return run >= e.candidate.data() && run < e.candidate.data() + e.candidate.size() ? "candidate" : "original";
    };
    const double limit = p_.stability.max_engine_error;
    const std::string scope = fmt::format("{} inputs, {} of them samples, the others extremes and special values",
                                          e.candidate.size(), e.samples);
    const bool good = step->step_error <= limit;
    if (e.steps)
      add({"engine.steps", "Steps of the plans against the reference", pass_if(good), step->step_error, limit,
           "at most", "",
           good
               ? fmt::format(
                     "Every step of both plans gives what the reference gives, within {:.2g} of its largest value "
                     "({}).",
                     step->step_error, scope)
               : fmt::format("The engine is wrong: layer {} of the {}'s plan differs from the reference on {}{}. Build "
                             "without tuning, and report it.",
                             step->step, model(step), step->input,
                             step->wrong > 0 ? fmt::format(" ({} elements in NaN, infinity or an integer)", step->wrong)
                                             : fmt::format(" by {:.2g} of its largest value", step->step_error))});
    if (output == nullptr) return;
    const bool same = output->output_error <= output->output_bound;
    add({"engine.outputs", "Outputs of the engine against the reference", pass_if(same), output->output_error,
         output->output_bound, "at most", "",
         same ? fmt::format("Both models' outputs are the reference's, within {:.2g} of the largest value.",
                            output->output_error)
              : fmt::format("The engine is wrong: output '{}' of the {} differs from the reference on {}{}.",
                            output->output, model(output), output->input,
                            std::isfinite(output->output_error)
                                ? fmt::format(" by {:.2g} of its largest value", output->output_error)
                                : " in NaN, infinity or an integer")});
  }

  void simulation() {
    const SimulationFigures& s = r_.simulation;
    const bool brief = s.seconds < p_.simulation.min_seconds;
    served_errors(brief);
    served_latency();
    if (s.comparison.labels) served_accuracy();
    if (p_.simulation.max_memory_slope_mib_per_hour) {
      const double limit = *p_.simulation.max_memory_slope_mib_per_hour;
      const bool unknown = !(std::isfinite(s.soak.slope_low) && std::isfinite(s.soak.slope_high));
      add({"simulation.memory", "Growth of the server's memory",
           unknown                      ? Verdict::kInconclusive
           : s.soak.slope_low > limit   ? Verdict::kFail
           : s.soak.slope_high <= limit ? Verdict::kPass
                                        : Verdict::kInconclusive,
           s.soak.slope_mib_per_hour, limit, "at most", "MiB/h",
           fmt::format(
               "In {:.0f} s of steady load the server's memory moved by {:.3g} MiB an hour (95 % interval {:.3g} "
               "to {:.3g}).{}",
               s.soak.seconds, s.soak.slope_mib_per_hour, s.soak.slope_low, s.soak.slope_high,
               s.soak.slope_low > limit || s.soak.slope_high <= limit ? "" : " A longer soak tells more.")});
    }
  }

  void served_errors(bool brief) {
    const SimulationFigures& s = r_.simulation;
    int64_t requests = s.soak.requests + s.replay.requests + s.comparison.requests;
    int64_t errors = s.soak.errors + s.replay.errors + s.comparison.errors;
    for (const SimulatedLoad& load : s.loads) {
      requests += load.requests;
      errors += load.errors;
    }
    const double rate = requests == 0 ? 1 : static_cast<double>(errors) / static_cast<double>(requests);
    const bool good = rate <= p_.simulation.max_error_rate;
    add({"simulation.errors", "Errors while served",
         !good   ? Verdict::kFail
         : brief ? Verdict::kInconclusive
                 : Verdict::kPass,
         100 * rate, 100 * p_.simulation.max_error_rate, "at most", "%",
         fmt::format("{} of {} requests to the served candidate failed, in {:.1f} s of load and soak.{}", errors,
                     requests, s.seconds,
                     good && brief ? fmt::format(" Less than {:g} s prove little.", p_.simulation.min_seconds) : "")});
  }

  void served_latency() {
    const SimulatedComparison& c = r_.simulation.comparison;
    const double limit = p_.simulation.max_p99_ratio;
    const bool unknown = !(c.p99_ratio > 0);
    add({"simulation.latency", "p99 latency while served",
         unknown || (c.p99_ratio > limit && c.p99_ratio_low <= limit) ? Verdict::kInconclusive
                                                                      : pass_if(c.p99_ratio <= limit),
         c.p99_ratio, limit, "at most", "x",
         fmt::format("Served in turns, the candidate's p99 is {:.3f} ms against {:.3f} ms: {:.2f} of the original's "
                     "(95 % interval {:.2f} to {:.2f}); the medians' ratio is {:.3f} ({:.3f} to {:.3f}, Mann–Whitney p "
                     "= {:.2g}, {} rounds).",
                     c.candidate_p99_ms, c.reference_p99_ms, c.p99_ratio, c.p99_ratio_low, c.p99_ratio_high, c.ratio,
                     c.ratio_low, c.ratio_high, c.mann_whitney_p, c.rounds)});
    r_.simulation.comparison.latency = r_.checks.back().verdict;
  }

  void served_accuracy() {
    const SimulatedComparison& c = r_.simulation.comparison;
    const double limit = p_.accuracy.max_drop_points;
    const bool lost = !(c.drop_points < limit || c.drop_points <= 0);
    add({"simulation.accuracy", "Top-1 accuracy lost while served", pass_if(!(lost && c.mcnemar_p < kSignificant)),
         c.drop_points, limit, "below", "points",
         fmt::format("Served in turns on {} samples, top-1 went from {} to {} (right only in the original {}, only in "
                     "the candidate {}, McNemar p = {:.2g}).",
                     c.samples, percent(c.reference_accuracy), percent(c.candidate_accuracy), c.only_reference_right,
                     c.only_candidate_right, c.mcnemar_p)});
    r_.simulation.comparison.accuracy = r_.checks.back().verdict;
  }

  // The policy's key that a check's threshold comes from; empty where the policy does not move it.
  static std::string_view policy_key(std::string_view check) {
    constexpr std::pair<std::string_view, std::string_view> kKeys[] = {
        {"accuracy.drop", "accuracy.max_drop_points"},
        {"accuracy.agreement", "accuracy.min_agreement"},
        {"accuracy.top1", "accuracy.min_top1_percent"},
        {"accuracy.classes", "accuracy.max_class_drop_points"},
        {"accuracy.edge_cases", "accuracy.max_edge_case_drop_points"},
        {"output.cosine", "output.min_cosine"},
        {"performance.latency", "performance.max_latency_ratio"},
        {"performance.memory", "performance.max_memory_increase_percent"},
        {"performance.file", "performance.max_file_increase_percent"},
        {"stability.reproducible", "stability.require_reproducible"},
        {"stability.variation", "stability.max_variation"},
        {"stability.saturation", "stability.max_saturated_percent"},
        {"stability.extremes", "stability.max_new_nonfinite"},
        {"engine.steps", "stability.max_engine_error"},
        {"simulation.memory", "simulation.max_memory_slope_mib_per_hour"},
        {"simulation.errors", "simulation.max_error_rate"},
        {"simulation.latency", "simulation.max_p99_ratio"},
        {"simulation.accuracy", "accuracy.max_drop_points"}};
    for (const auto& [id, key] : kKeys)
      if (id == check) return key;
    return {};
  }

  // The first sentence in full, the other checks by their titles.
  void conclude() {
    const auto reason = [&](Verdict verdict, const char* others) {
      std::string text, more;
      for (const Check& c : r_.checks) {
        if (c.verdict != verdict) continue;
        if (text.empty()) {
          text = c.sentence;
          if (const std::string_view key = policy_key(c.id); verdict == Verdict::kFail && !key.empty())
            text += fmt::format(" The policy's {} sets the limit.", key);
        } else {
          more += (more.empty() ? others : "; ") + c.title;
        }
      }
      return more.empty() ? text : text + more + ".";
    };
    r_.verdict = Verdict::kFail;
    r_.reason = reason(Verdict::kFail, " Also failed: ");
    if (!r_.reason.empty()) return;
    r_.verdict = Verdict::kInconclusive;
    r_.reason = reason(Verdict::kInconclusive, " Also open: ");
    if (!r_.reason.empty()) return;
    r_.verdict = Verdict::kPass;
    r_.reason = "Every figure is within the policy.";
  }

  Report& r_;
  const Policy& p_;
};

}  // namespace

void judge(Report& report) { Judge(report).run(); }

std::string chance_warning(double accuracy, const ChanceAgreement& chance) {
  constexpr double kSlight = 0.1;
  const double kappa = (accuracy - chance.accuracy) / (1 - chance.accuracy);
  if (!chance.possible || (chance.p < kSure && kappa >= kSlight)) return "";
  return fmt::format(
      "accuracy is near chance ({} right, {} by chance): the pre-processing (scale, mean, std, colour order, layout) "
      "or "
      "the label map is probably wrong",
      percent(accuracy), percent(chance.accuracy));
}

}  // namespace slipway
