// The Report for the terminal: verdict, checks, and the figures that people ask for first.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "report/report.h"

namespace slipway {
namespace {

const char* mark(Verdict verdict) {
  return verdict == Verdict::kPass ? "pass" : verdict == Verdict::kFail ? "FAIL" : "open";
}

std::string row(const std::string& what, const std::string& original, const std::string& candidate) {
  return fmt::format("  {:<30} {:>14} {:>14}\n", what, original, candidate);
}

std::string simulation_text(const SimulationFigures& s) {
  std::string text;
  for (const SimulatedLoad& l : s.loads)
    text += fmt::format("  served, {:<34} {:>9.1f} /s  p50 {:.3f}  p95 {:.3f}  p99 {:.3f} ms{}\n", l.name,
                        l.throughput_per_s, l.p50_ms, l.p95_ms, l.p99_ms,
                        l.errors > 0 ? fmt::format("  {} errors", l.errors) : "");
  if (s.done && s.replay.compared > 0)
    text += fmt::format("  replayed {} requests ({}): {}largest difference {:.3g}\n", s.replay.requests,
                        s.replay.source.empty() ? "test samples" : s.replay.source,
                        s.replay.classes ? fmt::format("same top-1 {:.2f} %, ", 100 * s.replay.agreement) : "",
                        s.replay.max_difference);
  return text;
}

}  // namespace

std::string report_text(const Report& r) {
  std::string text = row("", "original", "candidate");
  const auto number = [](const char* unit, int digits) {
    return [=](double value) { return fmt::format("{:.{}f}{}", value, digits, unit); };
  };
  const auto line = [&](const std::string& what, auto form, double a, double b) {
    text += row(what, form(a), form(b));
  };
  const PerformanceFigures& p = r.performance;
  if (r.accuracy.classifier) {
    line("top-1", number(" %", 2), 100 * r.accuracy.reference.accuracy, 100 * r.accuracy.candidate.accuracy);
    line("macro F1", number("", 4), r.accuracy.reference.macro_f1, r.accuracy.candidate.macro_f1);
    for (const EdgeCase& e : r.accuracy.edge_cases)
      line("top-1, " + e.name, number(" %", 2), 100 * e.reference_accuracy, 100 * e.candidate_accuracy);
  }
  line("latency p50", number(" ms", 3), p.reference.warm.p50_ms, p.candidate.warm.p50_ms);
  line("latency p95", number(" ms", 3), p.reference.warm.p95_ms, p.candidate.warm.p95_ms);
  line("latency p99", number(" ms", 3), p.reference.warm.p99_ms, p.candidate.warm.p99_ms);
  line("first result, cold, p50", number(" ms", 1), p.reference.cold.p50_ms, p.candidate.cold.p50_ms);
  for (const Throughput& t : p.throughput)
    line(fmt::format("throughput, batch {}", t.batch), number(" /s", 1), t.reference_per_s, t.candidate_per_s);
  constexpr double kMiB = 1024 * 1024;
  line("peak memory", number(" MiB", 2), static_cast<double>(p.reference.peak_bytes) / kMiB,
       static_cast<double>(p.candidate.peak_bytes) / kMiB);
  line("file", number(" MiB", 2), static_cast<double>(r.reference.file_bytes) / kMiB,
       static_cast<double>(r.candidate.file_bytes) / kMiB);
  if (p.speedup > 0) text += fmt::format("  {:<30} {:>29}\n", "speed-up", fmt::format("{:.2f}x as fast", p.speedup));
  if (!p.speed_note.empty()) text += fmt::format("  {}\n", p.speed_note);
  if (!p.integer_note.empty()) text += fmt::format("  {}\n", p.integer_note);
  text += simulation_text(r.simulation) + "\n";
  for (const Check& c : r.checks) text += fmt::format("{}  {}\n", mark(c.verdict), c.sentence);
  if (!r.accuracy.note.empty()) text += r.accuracy.note + "\n";
  for (const std::string& warning : r.data.warnings) text += "warning: " + warning + "\n";
  if (r.layers.unmatched > 0 && r.layers.layers.empty())
    text += "No value of the candidate has the name of one of the original's, so no layer could be compared.\n";
  const size_t failed = static_cast<size_t>(
      std::count_if(r.checks.begin(), r.checks.end(), [](const Check& c) { return c.verdict == Verdict::kFail; }));
  text += r.verdict == Verdict::kPass ? fmt::format("\nPASSED: {}\n", file_name(r.candidate.path))
          : r.verdict == Verdict::kFail
              ? fmt::format("\nFAILED {} of {} checks: {}\n", failed, r.checks.size(), file_name(r.candidate.path))
              : fmt::format("\nINCONCLUSIVE: {}\n", file_name(r.candidate.path));
  return text;
}

}  // namespace slipway
