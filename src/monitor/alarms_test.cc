// The alarms on a simulated clock.
#include "monitor/alarms.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slipway {
namespace {

/// Feeds one figure a second and notes each change as "NAME+@S" (fires) or "NAME-@S" (resolves).
struct AlarmRun {
  explicit AlarmRun(const AlarmRules& rules) : alarms(rules) {}
  void feed(const AlarmFigures& figures, int64_t seconds) {
    for (int64_t i = 0; i < seconds; ++i, ++now_s)
      for (const AlarmEvent& e : alarms.judge(figures, now_s * 1000))
        log += fmt::format("{}{}@{} ", e.alarm.name, e.resolved ? '-' : '+', now_s);
  }
  Alarms alarms;
  int64_t now_s = 0;
  std::string log;
};

AlarmFigures with_errors(int64_t requests, int64_t faults, int64_t timeouts = 0, double latency_ms = 1) {
  return {.versions = {{.model = "m",
                        .version = 2,
                        .requests = requests,
                        .faults = faults,
                        .timeouts = timeouts,
                        .mean_latency_ms = latency_ms}}};
}

TEST(Alarms, FireAfterTheConditionHeldAndResolveWithHysteresis) {
  AlarmRun run({.error_rate = 0.10, .for_s = 10, .resolve_ratio = 0.8});
  run.feed(with_errors(100, 50), 10);
  ASSERT_EQ(run.alarms.current().size(), 1u);
  EXPECT_FALSE(run.alarms.current()[0].firing);
  EXPECT_EQ(run.log, "");
  run.feed(with_errors(100, 50), 1);
  EXPECT_TRUE(run.alarms.current()[0].firing);
  run.feed(with_errors(100, 9), 100);  // under the threshold, over the hysteresis: stays
  run.feed(with_errors(100, 8), 9);
  run.feed(with_errors(100, 9), 1);  // the calm starts anew
  run.feed(with_errors(100, 0), 10);
  EXPECT_TRUE(run.alarms.current()[0].firing);
  run.feed(with_errors(100, 0), 1);
  EXPECT_EQ(run.log, "ErrorRateHigh+@10 ErrorRateHigh-@131 ");
  EXPECT_TRUE(run.alarms.current().empty());
}

TEST(Alarms, ABlipDoesNotFire) {
  AlarmRun run({.error_rate = 0.10, .for_s = 10});
  for (int i = 0; i < 5; ++i) {
    run.feed(with_errors(100, 50), 9);
    run.feed(with_errors(100, 10), 1);  // at the threshold is not above it
  }
  EXPECT_EQ(run.log, "");
}

TEST(Alarms, EachRuleHasItsOwnFigure) {
  const AlarmRules rules = {.mean_latency_ms = 5, .timeout_rate = 0.2, .no_traffic_s = 30, .for_s = 0};
  AlarmRun run(rules);
  run.feed(with_errors(100, 0, 0, 6), 1);
  run.feed(with_errors(100, 0, 30), 1);
  run.feed({.idle_s = {{"m", 31}}}, 1);
  run.feed({.resident_bytes = 81, .memory_limit_bytes = 100}, 1);
  run.feed({.resident_bytes = 81, .memory_limit_bytes = 0}, 1);
  EXPECT_EQ(run.log,
            "MeanLatencyHigh+@0 MeanLatencyHigh-@1 TimeoutRateHigh+@1 NoTraffic+@2 TimeoutRateHigh-@2 "
            "MemoryHigh+@3 NoTraffic-@3 MemoryHigh-@4 ");
}

TEST(Alarms, FewRequestsAreNotJudgedAndWhatIsGoneResolves) {
  AlarmRun run({.error_rate = 0.1, .min_requests = 20, .for_s = 0});
  run.feed(with_errors(19, 19), 5);
  EXPECT_EQ(run.log, "");
  run.feed(with_errors(20, 20), 1);
  run.feed({}, 1);
  EXPECT_EQ(run.log, "ErrorRateHigh+@5 ErrorRateHigh-@6 ");
  AlarmRun off(
      {.mean_latency_ms = 0, .error_rate = 0, .timeout_rate = 0, .memory_ratio = 0, .no_traffic_s = 0, .for_s = 0});
  off.feed(with_errors(100, 100, 100, 1e6), 3);
  off.feed({.idle_s = {{"m", 1e6}}, .resident_bytes = 99, .memory_limit_bytes = 100}, 3);
  EXPECT_EQ(off.log, "");
}

TEST(Alarms, TheWebhooksJsonIsAlertmanagers) {
  const Alarm alarm = {.name = "ErrorRateHigh",
                       .model = "a\"b",
                       .version = 2,
                       .firing = true,
                       .value = 0.5,
                       .threshold = 0.1,
                       .since_ms = 1'700'000'000'123,
                       .sentence = "s"};
  EXPECT_EQ(
      alert_json({alarm, false}, 0),
      R"([{"annotations":{"summary":"s","threshold":"0.1","value":"0.5"},"labels":{"alertname":"ErrorRateHigh",)"
      R"("job":"slipway","model":"a\"b","severity":"page","version":"2"},"startsAt":"2023-11-14T22:13:20.123Z"}])");
  EXPECT_NE(alert_json({alarm, true}, 1'700'000'060'000).find(R"("endsAt":"2023-11-14T22:14:20.000Z")"),
            std::string::npos);
}

std::string refusal(const std::string& text) {
  try {
    parse_alarm_rules(text, "alarms.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(AlarmRules, TheTemplateIsTheDefaults) {
  const AlarmRules rules = parse_alarm_rules(alarm_rules_template(), "template"), defaults;
  EXPECT_EQ(rules.error_rate, defaults.error_rate);
  EXPECT_EQ(rules.memory_ratio, defaults.memory_ratio);
  EXPECT_EQ(rules.window_s, defaults.window_s);
  EXPECT_EQ(rules.for_s, defaults.for_s);
  EXPECT_EQ(rules.min_requests, defaults.min_requests);
  EXPECT_EQ(rules.resolve_ratio, defaults.resolve_ratio);
  EXPECT_EQ(rules.webhook, "");
  EXPECT_EQ(parse_alarm_rules("", "empty").for_s, defaults.for_s);
}

TEST(AlarmRules, ReadsEveryKeyAndRefusesTheRest) {
  const AlarmRules r = parse_alarm_rules(
      "mean_latency_ms: 20\nerror_rate: 1/50\ntimeout_rate: 0.1\nmemory_ratio: 0.9\nno_traffic_s: 60\nmin_requests: 5\n"
      "window_s: 30\nfor_s: 0\nresolve_ratio: 0.5\nwebhook: http://h:1/x\n",
      "a.yaml");
  EXPECT_EQ(r.mean_latency_ms, 20);
  EXPECT_EQ(r.error_rate, 0.02);
  EXPECT_EQ(r.timeout_rate, 0.1);
  EXPECT_EQ(r.memory_ratio, 0.9);
  EXPECT_EQ(r.no_traffic_s, 60);
  EXPECT_EQ(r.min_requests, 5);
  EXPECT_EQ(r.window_s, 30);
  EXPECT_EQ(r.for_s, 0);
  EXPECT_EQ(r.resolve_ratio, 0.5);
  EXPECT_EQ(r.webhook, "http://h:1/x");
  EXPECT_NE(refusal("\neror_rate: 1").find("alarms.yaml:2"), std::string::npos);
  EXPECT_NE(refusal("eror_rate: 1").find("'error_rate'"), std::string::npos);
  EXPECT_NE(refusal("error_rate: 1.5").find("from 0 to 1"), std::string::npos);
  EXPECT_NE(refusal("window_s: 0"), "");
  EXPECT_NE(refusal("webhook: ftp://x"), "");
}

}  // namespace
}  // namespace slipway
