#include "load/load_report.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace slipway {
namespace {

LoadReport sample_report() {
  LoadResult r;
  r.model = "m<script>";
  for (int i = 1; i <= 1000; ++i) {
    r.latency_us.add(i * 10);
    r.service_us.add(i * 5);
  }
  r.requests = 1010;
  r.errors["503"] = 10;
  r.error_texts["503"] = "</script><b>too much</b>";
  r.seconds = 2;
  r.throughput_per_s = 500;
  r.offered_per_s = 505;
  r.series = {{1, 490, 5, 9.9, 3, 0.5, 80}, {2, 510, 5, 9.9, 7, 0.6, 81}};
  return {
      .url = "http://a:1", .samples = "10 samples of <d>.yaml", .date = "now", .levels = {{4, 505, true, false, r}}};
}

TEST(LoadReport, ThresholdsJudge) {
  const LoadResult r = sample_report().levels[0].result;
  const auto met = [&](const LoadThresholds& t) {
    const auto checks = check_load(r, t);
    EXPECT_EQ(checks.size(), 1u);
    return checks[0].met;
  };
  EXPECT_TRUE(check_load(r, {}).empty());
  EXPECT_TRUE(met({.max_p99_ms = 10}));
  EXPECT_FALSE(met({.max_p99_ms = 9}));
  EXPECT_TRUE(met({.max_error_rate = 0.01}));
  EXPECT_FALSE(met({.max_error_rate = 0}));
  EXPECT_TRUE(met({.min_throughput_per_s = 500}));
  EXPECT_FALSE(met({.min_throughput_per_s = 501}));
  const LoadResult nothing;  // no answer at all reaches no threshold
  for (const LoadCheck& c : check_load(nothing, {.max_p99_ms = 9, .max_error_rate = 1, .min_throughput_per_s = 1}))
    EXPECT_FALSE(c.met) << c.title;
}

TEST(LoadReport, FailsByChecksOrSoak) {
  LoadReport report = sample_report();
  EXPECT_FALSE(report.failed());
  report.checks = check_load(report.levels[0].result, {.max_p99_ms = 1});
  EXPECT_TRUE(report.failed());
  report.checks.clear();
  report.soak = SoakResult{.verdict = Verdict::kInconclusive};
  EXPECT_FALSE(report.failed());
  report.soak->verdict = Verdict::kFail;
  EXPECT_TRUE(report.failed());
  EXPECT_TRUE((LoadReport{.levels = {LoadLevel{}}}).failed());  // not one answer
}

TEST(LoadReport, Json) {
  LoadReport report = sample_report();
  report.soak = SoakResult{.reason = "why"};
  report.soak->memory_mib.high = std::numeric_limits<double>::infinity();
  const nlohmann::json j = nlohmann::json::parse(to_json(report).dump());
  const auto& level = j["levels"][0];
  EXPECT_EQ(level["requests"], 1010);
  EXPECT_EQ(level["errors"]["503"], 10);
  EXPECT_NEAR(level["latency"]["p50_ms"].get<double>(), 5, 0.05);
  EXPECT_NEAR(level["service"]["p99_ms"].get<double>(), 4.95, 0.05);
  EXPECT_EQ(level["latency"]["percentiles"].back()[0], 0.999);  // beyond, there is less than one request
  EXPECT_EQ(level["series"].size(), 2u);
  EXPECT_EQ(level["mode"], "open loop, 505/s, Poisson");
  EXPECT_TRUE(j["soak"]["memory_mib"]["high"].is_null());
}

TEST(LoadReport, TextNamesWhatMatters) {
  LoadReport report = sample_report();
  report.levels[0].result.kept_up = false;
  report.levels[0].result.unsent = 7;
  report.checks = check_load(report.levels[0].result, {.max_p99_ms = 1});
  const std::string text = load_report_text(report);
  for (const char* part : {"500.0/s of 505.0/s offered", "p99 9.9", "10 × 503", "0.55 cores, 81.0 MiB", "✗ p99 latency",
                           "did not keep up", "7 never"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(LoadReport, ThePageEscapesAndStandsAlone) {
  const std::string page = load_report_html(sample_report());
  EXPECT_EQ(page.find("too much</b>"), std::string::npos);
  EXPECT_EQ(page.find("m<script>"), std::string::npos);
  EXPECT_EQ(page.find("<d>.yaml"), std::string::npos);
  EXPECT_NE(page.find("\\u003c/script>\\u003cb>too much"), std::string::npos);
  EXPECT_EQ(page.find("src=\"http"), std::string::npos);
  EXPECT_NE(page.find("new Chart("), std::string::npos);
}

}  // namespace
}  // namespace slipway
