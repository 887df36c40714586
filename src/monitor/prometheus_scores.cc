// The monitor's part of the metrics: live scores by model, version and variant, from the first that is scored on, and
// the alarms.
#include <fmt/format.h>

#include <array>
#include <iterator>

#include "monitor/monitor_impl.h"
#include "serve/model_version.h"

namespace slipway {
namespace {

std::string label(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? "\\n" : std::string(1, c);
  }
  return out;
}

struct Figure {
  const char *name, *help;
  ScoreHistogram Observation::*at;
};
constexpr std::array<Figure, 3> kFigures = {{
    {"slipway_prediction_confidence_ratio", "Probability of the most probable class, of one row a request.",
     &Observation::confidence},
    {"slipway_prediction_entropy_ratio", "Entropy of the classes' probabilities / ln classes, of one row a request.",
     &Observation::entropy},
    {"slipway_prediction_margin_ratio", "Most probable class less the second, of one row a request.",
     &Observation::margin},
}};

}  // namespace

std::string Monitor::metrics_text() const {
  std::string text = prometheus_text(impl_->server);
  const auto put = [&]<typename... Args>(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  };
  const auto loaded = impl_->server.versions();
  for (const Figure& figure : kFigures) {
    put("# HELP {} {}\n# TYPE {} histogram\n", figure.name, figure.help, figure.name);
    for (const auto& version : loaded) {
      const auto watched = impl_->watched(*version);
      if (watched->shape.classes == 0) continue;
      for (int i = 0; i < kVariantCount; ++i) {
        Observation o;
        watched->scores[static_cast<size_t>(i)].copy_to(o);
        const ScoreHistogram& h = o.*figure.at;
        if (h.count() == 0) continue;
        const std::string labels = fmt::format("model=\"{}\",version=\"{}\",variant=\"{}\"", label(version->model()),
                                               version->version(), to_string(static_cast<Variant>(i)));
        int64_t seen = 0;
        for (size_t bin = 0; bin < ScoreHistogram::kBins; ++bin) {
          seen += h.counts[bin];
          if ((bin + 1) % 5 == 0)
            put("{}_bucket{{{},le=\"{:g}\"}} {}\n", figure.name, labels,
                static_cast<double>(bin + 1) / static_cast<double>(ScoreHistogram::kBins), seen);
        }
        put("{}_bucket{{{},le=\"+Inf\"}} {}\n{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", figure.name, labels, seen,
            figure.name, labels, h.sum, figure.name, labels, seen);
      }
    }
  }
  put("# HELP slipway_alarm_firing The alarm is firing (1) or pending (0).\n# TYPE slipway_alarm_firing gauge\n");
  for (const Alarm& alarm : alarms())
    put("slipway_alarm_firing{{alarm=\"{}\",model=\"{}\",version=\"{}\"}} {}\n", alarm.name, label(alarm.model),
        alarm.version, alarm.firing ? 1 : 0);
  return text;
}

}  // namespace slipway
