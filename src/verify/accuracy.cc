// Both models over the labelled samples, batch by batch: predictions, distances between their outputs, then the same on
// spoiled samples, where the data is such that spoiling means something (pictures, floats; no token ids). A model whose
// output is not one score per class, or data without labels, leaves only the distances.
#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/progress.h"
#include "data/corruption.h"
#include "data/top_classes.h"
#include "engine/executor.h"
#include "metrics/classification.h"
#include "metrics/distance.h"
#include "metrics/significance.h"
#include "verify/checks.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr double kPoints = 100;

/// Distances of one output, sample by sample.
struct OutputTally {
  Distance pooled;
  double cosine_sum = 0, cosine_min = 2, kl_sum = 0;
  int64_t samples = 0, worst = 0;
  int64_t reference_nonfinite = 0, candidate_nonfinite = 0, new_nonfinite = 0, lost_nonfinite = 0;
  bool histograms = false, probabilities = false;
};

bool is_distribution(std::span<const float> scores) {
  double sum = 0;
  for (const float s : scores) {
    if (!(s >= 0)) return false;
    sum += s;
  }
  return std::abs(sum - 1) < 1e-3;
}

/// NaN or infinity that both models have in the same place. It is said, and left out of the distances, which would all
/// be NaN by it.
bool same_nonfinite(float a, float b) { return !std::isfinite(a) && (a == b || (std::isnan(a) && std::isnan(b))); }

void leave_out_shared(std::vector<float>& a, std::vector<float>& b) {
  size_t kept = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (same_nonfinite(a[i], b[i])) continue;
    a[kept] = a[i];
    b[kept++] = b[i];
  }
  a.resize(kept);
  b.resize(kept);
}

/// One pass of both models over samples.
struct TrialPass {
  std::vector<OutputTally> outputs;
  std::vector<int64_t> labels, reference, candidate;  ///< predictions; empty for what is no classifier
  std::vector<InputRange> ranges;                     ///< by input
};

class TrialJudge {
 public:
  explicit TrialJudge(const Trial& trial)
      : trial_(trial), reference_(executor(trial.reference)), candidate_(executor(trial.candidate)) {}

  /// Positions in trial.samples; `read` makes the requests of positions [first, first + count) of that list.
  using Reader = std::function<std::vector<Inputs>(int64_t first, int64_t count)>;
  TrialPass run(const std::vector<int64_t>& positions, const Reader& read, const std::string& what) {
    TrialPass pass;
    for (const FeedPort& port : trial_.feed.ports()) pass.ranges.push_back({port.name, INFINITY, -INFINITY});
    const auto count = static_cast<int64_t>(positions.size());
    Progress progress(what, count, trial_.options.quiet);
    for (int64_t first = 0; first < count; first += trial_.options.batch) {
      const int64_t n = std::min(trial_.options.batch, count - first);
      const std::vector<Inputs> requests = read(first, n);
      for (const Inputs& request : requests) widen(pass.ranges, request);
      const auto a = reference_.run_requests(requests), b = candidate_.run_requests(requests);
      if (pass.outputs.empty()) start(a[0], b[0], pass);
      for (size_t s = 0; s < requests.size(); ++s) {
        const int64_t position = positions[static_cast<size_t>(first) + s];
        for (size_t i = 0; i < pass.outputs.size(); ++i) compare(a[s][i], b[s][i], i, position, pass.outputs[i]);
        if (classes_ > 0) predict(a[s], b[s], position, pass);
      }
      progress.step(n);
    }
    return pass;
  }

  int64_t classes() const { return classes_; }
  size_t scores() const { return scores_; }
  const std::string& note() const { return note_; }

 private:
  Executor executor(const Side& side) const {
    return Executor(side.graph, {.batch = trial_.options.batch,
                                 .program = {.threads = trial_.options.threads,
                                             .tune = trial_.options.tune && !trial_.sizes_vary,
                                             .timing_cache = trial_.options.timing_cache}});
  }

  static void widen(std::vector<InputRange>& ranges, const Inputs& request) {
    for (size_t i = 0; i < request.size(); ++i)
      for (const float v : to_floats(request[i])) {
        ranges[i].minimum = std::min<double>(ranges[i].minimum, v);
        ranges[i].maximum = std::max<double>(ranges[i].maximum, v);
      }
  }

  // Looks at the first sample's results: which output holds one score per class?
  void start(const std::vector<Tensor>& a, const std::vector<Tensor>& b, TrialPass& pass) {
    pass.outputs.resize(a.size());
    for (size_t i = 0; i < a.size(); ++i) {
      require_corresponding(a[i], b[i], i);
      const int64_t width = a[i].elements();
      const bool flat = a[i].rank() >= 2 && a[i].dims()[0] == 1 && a[i].dims()[1] == width;
      pass.outputs[i].histograms = !flat || width < 2 || !is_float(a[i].dtype());
    }
    if (const auto scores = scores_output(a, 1); scores && trial_.data.has_labels()) {
      scores_ = *scores;
      classes_ = a[scores_].dims()[1];
      return;
    }
    note_ = trial_.data.has_labels()
                ? fmt::format(
                      "No output has the form [N, classes] (the first is {}), so this is no classifier: it is "
                      "judged by cosine similarity, mean squared error and KL divergence.",
                      to_string(a[0].dims()))
                : "The data has no labels: the model is judged by cosine similarity, mean squared error and KL "
                  "divergence, not by accuracy.";
  }

  // Sizes that follow from the data, say the number of things found, may differ.
  void require_corresponding(const Tensor& a, const Tensor& b, size_t output) const {
    const Shape& declared = trial_.reference.graph.value(trial_.reference.graph.outputs()[output]).shape;
    bool fits = a.rank() == b.rank();
    for (size_t axis = 0; fits && axis < a.dims().size(); ++axis)
      fits = a.dims()[axis] == b.dims()[axis] || !declared.has_rank() || !declared[axis].is_known();
    if (!fits)
      fail(ErrorCode::kInvalidArgument,
           "The models' outputs do not correspond; is this candidate made from this original? '{}' is {} and {}",
           trial_.reference.graph.value(trial_.reference.graph.outputs()[output]).name, to_string(a.dims()),
           to_string(b.dims()));
  }

  void compare(const Tensor& a, const Tensor& b, size_t output, int64_t position, OutputTally& tally) const {
    require_corresponding(a, b, output);
    std::vector<float> p = to_floats(a), q = to_floats(b);
    p.resize(std::max(p.size(), q.size()), 0.0f);  // what only one of them has is set against nothing
    q.resize(p.size(), 0.0f);
    tally.reference_nonfinite += count_nonfinite(p);
    tally.candidate_nonfinite += count_nonfinite(q);
    leave_out_shared(p, q);
    tally.new_nonfinite += count_nonfinite(q);
    for (size_t i = 0; i < p.size(); ++i) tally.lost_nonfinite += !std::isfinite(p[i]) && std::isfinite(q[i]);
    const Distance d = distance(p, q);
    tally.pooled.merge(d);
    const double cosine = d.cosine();
    tally.cosine_sum += cosine;
    if (!(cosine >= tally.cosine_min) && !std::isnan(tally.cosine_min)) {
      tally.cosine_min = cosine;
      tally.worst = position;
    }
    if (!tally.histograms && tally.samples == 0) tally.probabilities = is_distribution(p) && is_distribution(q);
    tally.kl_sum += tally.histograms      ? kl_of_values(p, q)
                    : tally.probabilities ? kl_of_probabilities(p, q)
                                          : kl_of_logits(p, q);
    ++tally.samples;
  }

  void predict(const std::vector<Tensor>& a, const std::vector<Tensor>& b, int64_t position, TrialPass& pass) const {
    const int64_t index = trial_.samples[static_cast<size_t>(position)];
    const int64_t label = trial_.data.label(Split::kTest, index);
    if (label < 0 || label >= classes_)
      fail(ErrorCode::kInvalidArgument,
           "A label lies beyond the model's classes; correct label_map or label_offset in {}: {} of sample '{}', "
           "the model has {} classes",
           trial_.data.path(), label, trial_.data.sample_name(Split::kTest, index), classes_);
    pass.labels.push_back(label);
    pass.reference.push_back(argmax(to_floats(a[scores_])));
    pass.candidate.push_back(argmax(to_floats(b[scores_])));
  }

  const Trial& trial_;
  Executor reference_, candidate_;
  int64_t classes_ = 0;
  size_t scores_ = 0;
  std::string note_;
};

/// Samples that one model alone has right.
struct Discordant {
  int64_t reference = 0, candidate = 0;
  double p() const { return mcnemar_exact(reference, candidate); }
  /// Points of accuracy lost over `samples`, from counts: a difference of shares would fall just short of a threshold.
  double drop_points(int64_t samples) const {
    return samples == 0 ? 0 : kPoints * static_cast<double>(reference - candidate) / static_cast<double>(samples);
  }
};

Discordant discordant(const TrialPass& pass, int64_t label = -1) {
  Discordant d;
  for (size_t i = 0; i < pass.labels.size(); ++i) {
    if (label >= 0 && pass.labels[i] != label) continue;
    const bool a = pass.reference[i] == pass.labels[i], b = pass.candidate[i] == pass.labels[i];
    d.reference += a && !b;
    d.candidate += b && !a;
  }
  return d;
}

ConfusionMatrix confusion_of(const TrialPass& pass, const std::vector<int64_t>& predictions, int64_t classes) {
  ConfusionMatrix matrix(classes);
  for (size_t i = 0; i < predictions.size(); ++i) matrix.add(pass.labels[i], predictions[i]);
  return matrix;
}

ClassifierScore score_of(const ConfusionMatrix& m) {
  const Interval wilson = wilson_interval(m.correct(), m.total());
  const ChanceAgreement chance = chance_agreement(m);
  return {m.correct(),      m.accuracy(),    wilson.low, wilson.high,    m.macro_f1(),
          m.macro_recall(), chance.accuracy, chance.p,   chance.possible};
}

std::vector<ClassRow> class_rows(const TrialPass& pass, const ConfusionMatrix& a, const ConfusionMatrix& b,
                                 const std::vector<std::string>& names) {
  std::vector<ClassRow> rows;
  int64_t fewest = INT64_MAX, most = 0;
  for (int64_t c = 0; c < a.classes(); ++c) {
    const ClassScores x = a.scores(c), y = b.scores(c);
    if (x.support == 0) continue;
    fewest = std::min(fewest, x.support);
    most = std::max(most, x.support);
    rows.push_back({.index = c,
                    .support = x.support,
                    .name = static_cast<size_t>(c) < names.size() ? names[static_cast<size_t>(c)] : std::to_string(c),
                    .reference_recall = x.recall,
                    .candidate_recall = y.recall,
                    .reference_precision = x.precision,
                    .candidate_precision = y.precision,
                    .reference_f1 = x.f1,
                    .candidate_f1 = y.f1,
                    .mcnemar_p = discordant(pass, c).p()});
  }
  for (ClassRow& row : rows) row.minority = row.support == fewest && fewest < most;
  return rows;
}

std::vector<ConfusionCell> cells_of(const ConfusionMatrix& a, const ConfusionMatrix& b) {
  std::map<std::pair<int64_t, int64_t>, ConfusionCell> cells;
  for (const auto& [at, count] : a.cells()) cells[at].reference = count;
  for (const auto& [at, count] : b.cells()) cells[at].candidate = count;
  std::vector<ConfusionCell> list;
  for (auto& [at, cell] : cells) {
    cell.label = at.first;
    cell.predicted = at.second;
    list.push_back(cell);
  }
  return list;
}

void record_classifier(const Trial& trial, const TrialPass& pass, int64_t classes, AccuracyFigures& figures) {
  const ConfusionMatrix a = confusion_of(pass, pass.reference, classes),
                        b = confusion_of(pass, pass.candidate, classes);
  const Discordant d = discordant(pass);
  figures.classifier = true;
  figures.classes = classes;
  figures.reference = score_of(a);
  figures.candidate = score_of(b);
  figures.drop_points = d.drop_points(a.total());
  figures.agreement = agreement(pass.reference, pass.candidate);
  figures.only_reference_right = d.reference;
  figures.only_candidate_right = d.candidate;
  figures.mcnemar_p = d.p();
  figures.rows = class_rows(pass, a, b, trial.data.class_names());
  figures.confusion = cells_of(a, b);
}

void record_outputs(const Trial& trial, const TrialPass& pass, std::vector<OutputDistance>& outputs) {
  for (size_t i = 0; i < pass.outputs.size(); ++i) {
    const OutputTally& t = pass.outputs[i];
    const auto n = static_cast<double>(t.samples);
    outputs.push_back(
        {.name = trial.reference.graph.value(trial.reference.graph.outputs()[i]).name,
         .cosine_mean = t.cosine_sum / n,
         .cosine_min = t.cosine_min,
         .worst_sample = trial.data.sample_name(Split::kTest, trial.samples[static_cast<size_t>(t.worst)]),
         .mse = t.pooled.mse(),
         .max_abs = t.pooled.max_abs(),
         .sqnr_db = t.pooled.sqnr_db(),
         .kl_mean = t.kl_sum / n,
         .kl_of = t.histograms      ? "histograms"
                  : t.probabilities ? "probabilities"
                                    : "softmax",
         .reference_nonfinite = t.reference_nonfinite,
         .candidate_nonfinite = t.candidate_nonfinite,
         .new_nonfinite = t.new_nonfinite,
         .lost_nonfinite = t.lost_nonfinite});
  }
}

/// Whether spoiling in this way means something for an input.
bool can_spoil(const Dataset& data, size_t input, Corruption kind) {
  return data.is_image(input) || (kind == Corruption::kNoise && data.is_continuous(input));
}

/// A sample's input, spoiled where that means something.
Tensor spoiled(const Dataset& data, int64_t index, size_t input, Corruption kind) {
  if (!can_spoil(data, input, kind)) return data.input(Split::kTest, index, input);
  const auto seed = static_cast<uint64_t>(index);
  if (data.is_image(input))
    return preprocess_image(data.preprocess(input), corrupt(data.image(Split::kTest, index, input), kind, seed));
  return add_noise(data.input(Split::kTest, index, input), seed);
}

EdgeCase edge_case(const Trial& trial, TrialJudge& judge, Corruption kind) {
  const auto positions =
      spread(static_cast<int64_t>(trial.samples.size()), std::max<int64_t>(trial.options.edge_case_samples, 1));
  const auto read = [&](int64_t first, int64_t count) {
    std::vector<Inputs> requests;
    for (int64_t i = first; i < first + count; ++i) {
      const int64_t index = trial.samples[static_cast<size_t>(positions[static_cast<size_t>(i)])];
      std::vector<Tensor> sample;
      for (size_t input = 0; input < trial.data.inputs(); ++input)
        sample.push_back(spoiled(trial.data, index, input, kind));
      requests.push_back(trial.feed.request_of(sample, Split::kTest, index));
    }
    return requests;
  };
  const std::string name(to_string(kind));
  const TrialPass pass = judge.run(positions, read, "edge case: " + name);
  const OutputTally& tally = pass.outputs[judge.scores()];
  EdgeCase e{.name = name,
             .samples = static_cast<int64_t>(positions.size()),
             .reference_accuracy = NAN,
             .candidate_accuracy = NAN,
             .cosine = tally.cosine_sum / static_cast<double>(tally.samples)};
  if (judge.classes() == 0) return e;
  e.reference_accuracy = agreement(pass.labels, pass.reference);
  e.candidate_accuracy = agreement(pass.labels, pass.candidate);
  const Discordant d = discordant(pass);
  e.drop_points = d.drop_points(e.samples);
  e.agreement = agreement(pass.reference, pass.candidate);
  e.mcnemar_p = d.p();
  return e;
}

}  // namespace

void measure_accuracy(Trial& trial, Report& report) {
  TrialJudge judge(trial);
  const auto count = static_cast<int64_t>(trial.samples.size());
  const TrialPass pass = judge.run(
      spread(count, count),
      [&](int64_t first, int64_t n) {
        const std::span indices = std::span(trial.samples).subspan(static_cast<size_t>(first), static_cast<size_t>(n));
        return trial.feed.requests(Split::kTest, indices, trial.options.threads);
      },
      "accuracy");
  report.data.ranges = pass.ranges;
  AccuracyFigures& figures = report.accuracy;
  figures.samples = count;
  figures.note = judge.note();
  figures.output = trial.reference.graph.value(trial.reference.graph.outputs()[judge.scores()]).name;
  if (judge.classes() > 0) {
    record_classifier(trial, pass, judge.classes(), figures);
    for (const ClassifierScore* score : {&figures.reference, &figures.candidate})
      if (const std::string warning =
              chance_warning(score->accuracy, {score->chance, score->chance_p, score->chance_known});
          !warning.empty())
        report.data.warnings.push_back(
            fmt::format("the {}'s {}", score == &figures.reference ? "original" : "candidate", warning));
  }
  record_outputs(trial, pass, report.outputs);
  for (const Corruption kind : kCorruptions) {
    bool any = false;
    for (size_t input = 0; input < trial.data.inputs(); ++input) any = any || can_spoil(trial.data, input, kind);
    if (any && trial.options.edge_case_samples > 0) figures.edge_cases.push_back(edge_case(trial, judge, kind));
  }
}

}  // namespace slipway
