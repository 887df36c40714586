// A load's figures as JSON, as text, and judged against thresholds.
#include "load/load_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

namespace slipway {
namespace {

constexpr std::array<double, 19> kCurve = {0,   0.1,  0.2,  0.3,  0.4,   0.5,   0.6,    0.7,     0.75,    0.8,
                                           0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 0.99999, 0.999999};

nlohmann::json number(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); }

nlohmann::json latency_json(const Histogram& h) {
  nlohmann::json curve = nlohmann::json::array();
  for (const double q : kCurve)
    if (static_cast<double>(h.count()) * (1 - q) >= 1) curve.push_back({q, h.quantile(q) * 1e-3});
  return {{"mean_ms", h.mean() * 1e-3},
          {"p50_ms", h.quantile(0.5) * 1e-3},
          {"p90_ms", h.quantile(0.9) * 1e-3},
          {"p95_ms", h.quantile(0.95) * 1e-3},
          {"p99_ms", h.quantile(0.99) * 1e-3},
          {"p999_ms", h.quantile(0.999) * 1e-3},
          {"max_ms", static_cast<double>(h.max()) * 1e-3},
          {"percentiles", curve}};
}

nlohmann::json trend_json(const Trend& t) {
  return {{"slope_per_hour", number(t.slope)}, {"low", number(t.low)}, {"high", number(t.high)},           {"p", t.p},
          {"intercept", number(t.intercept)},  {"points", t.n},        {"variance_inflation", t.inflation}};
}

std::string mode(const LoadLevel& level) {
  if (level.rate > 0) return fmt::format("open loop, {:g}/s{}", level.rate, level.poisson ? ", Poisson" : "");
  return level.replay ? "replay at the recorded times" : fmt::format("closed loop, concurrency {}", level.concurrency);
}

std::string trend_line(const char* name, const Trend& t, const char* unit) {
  if (t.n == 0) return {};
  return fmt::format("  {:<11} {} {} per hour ({} to {}), p {:.2g}{}\n", name, signed_figure(t.slope), unit,
                     signed_figure(t.low), signed_figure(t.high), t.p, t.p < 0.01 ? "" : ": no trend");
}

}  // namespace

bool LoadReport::failed() const {
  const bool answered = levels.empty() || levels.back().result.latency_us.count() > 0;
  return !answered || std::any_of(checks.begin(), checks.end(), [](const LoadCheck& c) { return !c.met; }) ||
         (soak && soak->verdict == Verdict::kFail);
}

std::vector<LoadCheck> check_load(const LoadResult& r, const LoadThresholds& thresholds) {
  std::vector<LoadCheck> checks;
  const auto at_most = [&](const char* title, double figure, double threshold, const char* unit, bool known) {
    checks.push_back({title, figure, threshold, "at most", unit, known && figure <= threshold});
  };
  if (thresholds.max_p99_ms)
    at_most("p99 latency", r.latency_us.quantile(0.99) * 1e-3, *thresholds.max_p99_ms, "ms", r.latency_us.count() > 0);
  if (thresholds.max_error_rate) at_most("error rate", r.error_rate(), *thresholds.max_error_rate, "", r.requests > 0);
  if (thresholds.min_throughput_per_s)
    checks.push_back({"throughput", r.throughput_per_s, *thresholds.min_throughput_per_s, "at least", "/s",
                      r.throughput_per_s >= *thresholds.min_throughput_per_s});
  return checks;
}

std::string lateness_note(const LoadResult& r) {
  if (r.kept_up) return {};
  return fmt::format(
      "The generator did not keep up: {} requests were sent over 1 ms late (at most {:.0f} ms), {} never. Their "
      "waiting "
      "counts as latency. Allow more at once with --concurrency, or ask for a lower rate.",
      r.late_starts, r.max_lateness_ms, r.unsent);
}

nlohmann::json to_json(const LoadResult& r) {
  nlohmann::json series = nlohmann::json::array();
  for (const auto& p : r.series)
    series.push_back({{"t_s", p.t_s},
                      {"throughput_per_s", p.throughput},
                      {"p50_ms", p.p50_ms},
                      {"p99_ms", p.p99_ms},
                      {"errors", p.errors},
                      {"server_cpu_cores", p.server_cpu},
                      {"server_rss_mib", p.server_rss_mb}});
  return {{"model", r.model},
          {"requests", r.requests},
          {"errors", r.errors},
          {"error_texts", r.error_texts},
          {"error_rate", r.error_rate()},
          {"seconds", r.seconds},
          {"throughput_per_s", r.throughput_per_s},
          {"offered_per_s", r.offered_per_s},
          {"latency", latency_json(r.latency_us)},
          {"service", latency_json(r.service_us)},
          {"kept_up", r.kept_up},
          {"late_starts", r.late_starts},
          {"unsent", r.unsent},
          {"max_lateness_ms", r.max_lateness_ms},
          {"interrupted", r.interrupted},
          {"point_seconds", r.point_seconds},
          {"series", series}};
}

nlohmann::json to_json(const SoakResult& s) {
  return {{"verdict", to_string(s.verdict)},
          {"reason", s.reason},
          {"memory_mib", trend_json(s.memory_mib)},
          {"memory_mib_per_day", number(s.memory_mib_per_day)},
          {"max_memory_slope_mib_per_hour", s.max_memory_slope_mib_per_hour},
          {"p50_ms", trend_json(s.p50_ms)},
          {"p99_ms", trend_json(s.p99_ms)},
          {"throughput_per_s", trend_json(s.throughput)},
          {"settled_s", s.settled_s},
          {"judged_s", s.judged_s}};
}

nlohmann::json to_json(const LoadReport& report) {
  nlohmann::json j = {{"url", report.url},
                      {"samples", report.samples},
                      {"date", report.date},
                      {"predict", report.predict},
                      {"failed", report.failed()},
                      {"levels", nlohmann::json::array()},
                      {"checks", nlohmann::json::array()}};
  for (const LoadLevel& level : report.levels) {
    nlohmann::json entry = to_json(level.result);
    entry["mode"] = mode(level);
    entry["concurrency"] = level.concurrency;
    entry["rate"] = level.rate;
    j["levels"].push_back(std::move(entry));
  }
  for (const LoadCheck& c : report.checks)
    j["checks"].push_back({{"title", c.title},
                           {"figure", number(c.figure)},
                           {"bound", c.bound},
                           {"threshold", c.threshold},
                           {"unit", c.unit},
                           {"met", c.met}});
  if (report.soak) j["soak"] = to_json(*report.soak);
  return j;
}

std::string load_report_text(const LoadReport& report) {
  std::string text;
  for (const LoadLevel& level : report.levels) {
    const LoadResult& r = level.result;
    const auto ms = [](const Histogram& h, double q) { return h.quantile(q) * 1e-3; };
    text += fmt::format("{}{}: {} requests in {:.1f} s, {:.1f}/s{}\n", mode(level),
                        r.interrupted ? " (interrupted)" : "", r.requests, r.seconds, r.throughput_per_s,
                        level.rate > 0 ? fmt::format(" of {:.1f}/s offered", r.offered_per_s) : "");
    text +=
        fmt::format("  latency ms  mean {:.3f}  p50 {:.3f}  p95 {:.3f}  p99 {:.3f}  p99.9 {:.3f}  max {:.3f}\n",
                    r.latency_us.mean() * 1e-3, ms(r.latency_us, 0.5), ms(r.latency_us, 0.95), ms(r.latency_us, 0.99),
                    ms(r.latency_us, 0.999), static_cast<double>(r.latency_us.max()) * 1e-3);
    if (level.rate > 0 || level.replay)
      text +=
          fmt::format("  from the send      p50 {:.3f}  p95 {:.3f}  p99 {:.3f}  p99.9 {:.3f}\n", ms(r.service_us, 0.5),
                      ms(r.service_us, 0.95), ms(r.service_us, 0.99), ms(r.service_us, 0.999));
    double cpu = 0, rss = 0, seen = 0;
    for (const auto& p : r.series)
      if (p.server_rss_mb > 0) {
        cpu += p.server_cpu;
        rss = std::max(rss, p.server_rss_mb);
        ++seen;
      }
    if (seen > 0) text += fmt::format("  server      {:.2f} cores, {:.1f} MiB at most\n", cpu / seen, rss);
    for (const auto& [kind, count] : r.errors)
      text += fmt::format("  errors      {} × {}: {}\n", count, kind, r.error_texts.at(kind));
    if (const std::string note = lateness_note(r); !note.empty()) text += "  " + note + "\n";
  }
  for (const LoadCheck& c : report.checks)
    text +=
        fmt::format("{} {} {:.4g} {}, {} {:g}\n", c.met ? "✓" : "✗", c.title, c.figure, c.unit, c.bound, c.threshold);
  if (report.soak) {
    const SoakResult& s = *report.soak;
    text += fmt::format("soak {}: {}\n  judged {:.0f} s after {:.0f} s to settle\n", to_string(s.verdict), s.reason,
                        s.judged_s, s.settled_s);
    text += trend_line("memory", s.memory_mib, "MiB") + trend_line("p50", s.p50_ms, "ms") +
            trend_line("p99", s.p99_ms, "ms") + trend_line("throughput", s.throughput, "/s");
  }
  return text;
}

}  // namespace slipway
