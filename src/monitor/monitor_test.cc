// The monitor over a server in memory, on a simulated clock.
#include "monitor/monitor.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "monitor/dashboard.h"
#include "serve/admin/admin.h"
#include "serve/admin/admin_client.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

using nlohmann::json;

/// A server of one model whose answers are its inputs, and a monitor whose seconds pass by hand.
struct Watch {
  explicit Watch(AlarmRules rules = {}, int64_t history_s = 900) {
    server = make_server({make_version(identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(4)})))});
    monitor = std::make_unique<Monitor>(
        *server,
        MonitorOptions{.alarms = std::move(rules), .history_s = history_s, .clock = [this] { return now_ns; }});
    server->observe([this](const Served& served) { monitor->observe(served); });
  }
  ~Watch() { server->drain(10'000); }
  void ask(const std::vector<float>& row, const std::string& version = "") {
    const InferResponse r = infer_and_wait(*server, request_of(Tensor::of<float>({1, 4}, row)), "m", version);
    ASSERT_FALSE(r.error) << r.message;
  }
  void seconds(int n) {
    for (int i = 0; i < n; ++i) now_ns += 1'000'000'000, monitor->tick();
  }
  json status(const std::string& rollouts = "") { return json::parse(monitor->status_json(rollouts)); }
  int64_t now_ns = 5'000'000'000;
  std::unique_ptr<Server> server;
  std::unique_ptr<Monitor> monitor;
};

TEST(Monitor, ObservesScoresByVersionAndVariant) {
  Watch w;
  w.server->add(make_version(identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(4)})), "m", 2));
  w.ask({1, 0, 0, 0});
  const Observation before = w.monitor->observation("m", 1, Variant::kStable);
  w.ask({0.5f, 0.5f, 0, 0});
  w.ask({0.25f, 0.25f, 0.25f, 0.25f}, "2");
  const Observation o = w.monitor->observation("m", 1, Variant::kStable).since(before);
  EXPECT_TRUE(o.scored);
  EXPECT_EQ(o.traffic.requests, 1);
  EXPECT_EQ(o.confidence.counts[25], 1);
  EXPECT_EQ(o.confidence.count(), 1);
  EXPECT_NEAR(o.entropy.mean(), 0.5, 1e-6);
  EXPECT_EQ(o.margin.mean(), 0);
  const Observation other = w.monitor->observation("m", 2, Variant::kPinned);
  EXPECT_NEAR(other.entropy.mean(), 1, 1e-6);
  EXPECT_EQ(w.monitor->observation("m", 2, Variant::kStable).confidence.count(), 0);
  try {
    w.monitor->observation("m", 3, Variant::kStable);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  }
}

TEST(Monitor, TheStatusSaysWhatTheServerDoes) {
  Watch w;
  for (int i = 0; i < 20; ++i) w.ask({0, 0, 1, 0});
  w.seconds(1);
  const json s = w.status(R"([{"model":"m","state":"running"}])");
  EXPECT_EQ(s.at("versions").size(), 1u);
  const json& v = s.at("versions")[0];
  EXPECT_EQ(v.at("role"), "live");
  EXPECT_EQ(v.at("share"), 1);
  EXPECT_EQ(v.at("proof"), "passed");
  EXPECT_EQ(v.at("requests"), 20);
  EXPECT_EQ(v.at("recent").at("requests_per_s"), 20);
  EXPECT_EQ(v.at("recent").at("confidence"), 1);
  EXPECT_EQ(v.at("scores").at("last_minute").at("bins")[49], 20);
  EXPECT_GT(s.at("process").at("resident_bytes"), 0);
  EXPECT_GE(s.at("process").at("memory_limit_bytes"), s.at("process").at("resident_bytes"));
  EXPECT_EQ(s.at("rollouts")[0].at("state"), "running");
  EXPECT_TRUE(w.status("no json").at("rollouts").empty());
  w.seconds(20);
  EXPECT_EQ(w.status().at("total").at("requests_per_s"), 0);
  EXPECT_TRUE(w.status().at("total").at("p99_ms").is_null());
}

TEST(Monitor, OutputsThatAreNoScoresAreOffAndSaySo) {
  auto server = make_server({make_version(identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(4), Dim(4)})))});
  Monitor monitor(*server, {});
  server->observe([&](const Served& served) { monitor.observe(served); });
  infer_and_wait(*server, request_of(Tensor::of<float>({1, 4, 4}, std::vector<float>(16, 1))));
  EXPECT_FALSE(monitor.observation("m", 1, Variant::kStable).scored);
  EXPECT_EQ(monitor.observation("m", 1, Variant::kStable).confidence.count(), 0);
  const json scores = json::parse(monitor.status_json()).at("versions")[0].at("scores");
  EXPECT_EQ(scores.at("on"), false);
  EXPECT_NE(scores.at("reason").get<std::string>().find("'y'"), std::string::npos);
  server->drain(10'000);
}

TEST(Monitor, SeriesComeInPiecesAndStayBounded) {
  Watch w({}, 30);
  w.ask({1, 0, 0, 0});
  w.seconds(10);
  const json first = json::parse(w.monitor->series_json());
  const json& points = first.at("versions")[0].at("points");
  ASSERT_EQ(points.size(), 10u);
  ASSERT_EQ(points[0].size(), first.at("columns").size());
  EXPECT_EQ(points[0][1], 1);
  EXPECT_EQ(first.at("models")[0].at("points"), points);
  EXPECT_EQ(first.at("total").at("points"), points);
  w.seconds(2);
  const json next = json::parse(w.monitor->series_json(points[9][0].get<int64_t>()));
  EXPECT_EQ(next.at("total").at("points").size(), 2u);
  EXPECT_EQ(next.at("process").size(), 2u);
  EXPECT_EQ(next.at("start_ms"), first.at("start_ms"));
  w.seconds(200);
  EXPECT_EQ(json::parse(w.monitor->series_json()).at("total").at("points").size(), 31u);
}

TEST(Monitor, ALoadedAgainVersionStartsAfresh) {
  Watch w;
  w.ask({1, 0, 0, 0});
  w.seconds(1);
  w.server->add(make_version(identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(4)}))));
  w.server->route("m", {.stable = 1});
  w.ask({0, 1, 0, 0});
  w.ask({0, 1, 0, 0});
  w.seconds(1);
  const json s = w.status();
  EXPECT_EQ(s.at("versions")[0].at("requests"), 2);
  EXPECT_EQ(s.at("total").at("requests_per_s"), 1.5) << "three in two seconds, over both";
}

TEST(Monitor, AlarmsFireAndAreLoggedAndResolve) {
  Watch w({.no_traffic_s = 5, .for_s = 2});
  w.ask({1, 0, 0, 0});
  w.seconds(6);
  EXPECT_TRUE(w.monitor->alarms().empty());
  w.seconds(3);
  ASSERT_EQ(w.monitor->alarms().size(), 1u);
  EXPECT_EQ(w.monitor->alarms()[0].name, "NoTraffic");
  EXPECT_TRUE(w.monitor->alarms()[0].firing);
  EXPECT_EQ(w.status().at("alarms")[0].at("state"), "firing");
  for (int i = 0; i < 4; ++i) w.ask({1, 0, 0, 0}), w.seconds(1);
  EXPECT_TRUE(w.monitor->alarms().empty());
  EXPECT_EQ(w.status().at("alarm_log").size(), 2u);
  EXPECT_EQ(json::parse(w.monitor->alarms_json()).at("alarms").size(), 0u);
}

TEST(Monitor, ItsOwnThreadTicks) {
  Watch w;
  w.now_ns += 1'000'000'000;
  w.monitor->start();
  while (json::parse(w.monitor->series_json()).at("total").at("points").empty()) std::this_thread::yield();
}

TEST(Monitor, TheAdminPortServesItAll) {
  Watch w;
  w.ask({1, 0, 0, 0});
  w.seconds(3);
  AdminPlane admin("127.0.0.1", 0, "secret");
  w.monitor->serve_on(admin, [] { return std::string(R"([{"model":"m","state":"held"}])"); });
  admin.start();
  const std::string url = "http://127.0.0.1:" + std::to_string(admin.port());
  const auto get = [&](const std::string& target) { return admin_call(url, "GET", target, "", "secret", 10'000); };
  EXPECT_EQ(get("/").body, dashboard_html());
  EXPECT_TRUE(get("/").content_type.starts_with("text/html"));
  EXPECT_EQ(json::parse(get("/api/status").body).at("rollouts")[0].at("state"), "held");
  const json all = json::parse(get("/api/series").body);
  ASSERT_EQ(all.at("total").at("points").size(), 3u);
  const int64_t first_ms = all.at("total").at("points")[0][0];
  EXPECT_EQ(json::parse(get(fmt::format("/api/series?since={}", first_ms)).body).at("total").at("points").size(), 2u);
  EXPECT_EQ(get("/api/series?since=x").status, 200);
  EXPECT_EQ(json::parse(get("/api/alarms").body).at("alarms").size(), 0u);
  EXPECT_NE(get("/metrics").body.find("slipway_requests_total{"), std::string::npos);
  EXPECT_TRUE(get("/metrics").content_type.starts_with("text/plain; version=0.0.4"));
  EXPECT_EQ(get("/nothing").status, 404);
  admin.stop();
}

TEST(Monitor, PromtoolAcceptsTheMetrics) {
  if (std::system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool is not installed";
  Watch w;
  w.ask({1, 0, 0, 0});
  w.seconds(1);
  const std::string text = w.monitor->metrics_text();
  EXPECT_NE(text.find("slipway_prediction_confidence_ratio_count{model=\"m\",version=\"1\",variant=\"stable\"} 1\n"),
            std::string::npos);
  std::FILE* pipe = ::popen("promtool check metrics >&2", "w");
  ASSERT_NE(pipe, nullptr);
  EXPECT_EQ(std::fwrite(text.data(), 1, text.size(), pipe), text.size());
  EXPECT_EQ(::pclose(pipe), 0);
}

TEST(Dashboard, IsOneWholePageThatFetchesNothingElsewhere) {
  const std::string page = dashboard_html();
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  for (const char* mark : {"/*style*/", "/*charts*/", "/*script*/"})
    EXPECT_EQ(page.find(mark), std::string::npos) << mark;
  EXPECT_NE(page.find("Chart.js v"), std::string::npos);
  EXPECT_NE(page.find("connection lost"), std::string::npos);
  for (const char* fetched : {"<script src", "<link rel=\"stylesheet\"", "@import", ".innerHTML", "insertAdjacentHTML"})
    EXPECT_EQ(page.find(fetched), std::string::npos) << fetched;
}

}  // namespace
}  // namespace slipway
