#include "monitor/terminal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace slipway {
namespace {

using nlohmann::json;

TEST(Terminal, SparklinesScaleToTheirHighest) {
  EXPECT_EQ(sparkline({0, 1, 2, 7}, 10), "▁▂▃█");
  EXPECT_EQ(sparkline({9, 9, 1, NAN, 1}, 3), "█ █");
  EXPECT_EQ(sparkline({0, 0}, 5), "▁▁");
  EXPECT_EQ(sparkline({}, 5), "");
}

json example() {
  return json::parse(R"({"slipway":"0.1.0","ready":true,"now_ms":10000,"start_ms":0,
    "total":{"requests_per_s":200,"p50_ms":1.5,"p95_ms":2,"p99_ms":3,"mean_ms":1.6,"faults_per_s":10,
      "timeouts_per_s":0,"rejections_per_s":0,"queue_depth":0,"batch_rows":2,"confidence":0.9,"entropy":0.2,"margin":0.7},
    "process":{"resident_bytes":1048576,"memory_limit_bytes":10485760,"memory_alarm_ratio":0.8,"cpu_cores":0.5},
    "versions":[{"model":"evil\u001b[2J\u009bname","version":3,"role":"live","proof":"passed","share":1,
      "scores":{"on":false},"recent":{"requests_per_s":200,"p50_ms":1.5,"p99_ms":null}}],
    "rollouts":[{"model":"m","state":"rolled_back","candidate":4,"step":1,"steps":[0.01,0.1],"reason":"because",
      "verdicts":[{"name":"error rate","verdict":"fail","sentence":"5 % against 0 %"}]},{"model":"n","state":"idle"}],
    "alarms":[{"name":"ErrorRateHigh","state":"firing","sentence":"too many"}]})");
}

TEST(Terminal, ShowsFiguresVersionsRolloutsAndAlarms) {
  const json series = json::parse(R"({"columns":["t_ms","requests_per_s"],"total":{"points":[[1,1],[2,4],[3,null]]}})");
  const std::string view = terminal_view(example(), series, "http://h:1", {.columns = 120});
  for (const char* part :
       {"ALARM ErrorRateHigh", "200 req/s", "▃█", "1.50 ms", "p99 3.00 ms", "5.0 %", "1.0 MiB", "10 % of the limit",
        "v3", "off", "rollout m v4 rolled_back", "1.0 % > 10 %", "because", "5 % against 0 %"})
    EXPECT_NE(view.find(part), std::string::npos) << part << "\n" << view;
  EXPECT_EQ(view.find("rollout n"), std::string::npos);
  EXPECT_EQ(view.find('\x1b'), std::string::npos) << "no colours asked for, and none from names";
  EXPECT_EQ(view.find("\u009b"), std::string::npos);
}

TEST(Terminal, FitsTheScreen) {
  const std::string view = terminal_view(example(), json(), "http://h:1", {.columns = 40, .rows = 6, .color = true});
  EXPECT_EQ(std::count(view.begin(), view.end(), '\n'), 6);
  size_t width = 0, widest = 0;
  bool escape = false;
  for (const char c : view) {
    if (c == '\n') width = 0;
    if (c == '\x1b') escape = true;
    if (!escape && c != '\n' && (static_cast<unsigned char>(c) & 0xc0) != 0x80) widest = std::max(widest, ++width);
    if (c == 'm') escape = false;
  }
  EXPECT_LE(widest, 40u);
}

TEST(Terminal, AnythingIsShownSomehow) {
  for (const char* text :
       {"null", "[]", "{}", R"({"versions":7,"alarms":[1,null,{}],"rollouts":[{"steps":["x",{}]}],"total":[]})",
        R"({"versions":[null,{"version":1e300}],"process":{"resident_bytes":"x"}})"})
    EXPECT_FALSE(terminal_view(json::parse(text), json::parse(text), "u", {}).empty());
}

}  // namespace
}  // namespace slipway
