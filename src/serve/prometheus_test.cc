// The metrics text: what it counts, its form, and promtool's opinion.
#include <gtest/gtest.h>

#include <cstdio>

#include "base/file.h"
#include "data/test_folder.h"
#include "serve/process.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

bool has(const std::string& text, const std::string& line) {
  return text.find("\n" + line + "\n") != std::string::npos;
}

TEST(Prometheus, CountsExactlyAndStartsAtZero) {
  auto version = make_version(scaling_graph(2), "a\"b\\c", 3);
  auto server = make_server({version});
  VersionMetrics& m = version->metrics();
  std::string text = prometheus_text(*server);
  const std::string labels = R"(model="a\"b\\c",version="3",variant="stable")";
  EXPECT_TRUE(has(text, "slipway_requests_total{" + labels + "} 0"));
  EXPECT_EQ(text.find("slipway_errors_total{" + labels), std::string::npos) << "nothing was asked yet";
  EXPECT_EQ(text.find("_bucket{"), std::string::npos);
  EXPECT_TRUE(has(text, R"(slipway_version_weight_ratio{model="a\"b\\c",version="3"} 1)"));
  m.variants[0].requests += 4;
  ++m.variants[0].errors[static_cast<size_t>(ErrorCode::kDeadline)];
  for (const int64_t us : {63, 64, 1023, 1024, 98303, 131072}) m.variants[0].total_us.add(us);
  for (const int64_t rows : {1, 4, 5}) m.batch_rows.add(rows);
  ++m.closed_by_delay;
  text = prometheus_text(*server);
  const auto bucket = [&](const char* le, int n) {
    return has(text, fmt::format("slipway_request_duration_seconds_bucket{{{},le=\"{}\"}} {}", labels, le, n));
  };
  EXPECT_TRUE(has(text, "slipway_requests_total{" + labels + "} 4"));
  EXPECT_TRUE(has(text, "slipway_errors_total{" + labels + ",kind=\"deadline\"} 1"));
  EXPECT_TRUE(has(text, "slipway_errors_total{" + labels + ",kind=\"out_of_memory\"} 0"));
  EXPECT_TRUE(bucket("6.4e-05", 1)) << text;
  EXPECT_TRUE(bucket("0.000128", 2));
  EXPECT_TRUE(bucket("0.001024", 3));
  EXPECT_TRUE(bucket("0.002048", 4));
  EXPECT_TRUE(bucket("0.131072", 5));
  EXPECT_TRUE(bucket("0.524288", 6));
  EXPECT_TRUE(bucket("+Inf", 6));
  EXPECT_TRUE(has(text, R"(slipway_batch_rows_bucket{model="a\"b\\c",version="3",le="4"} 2)"));
  EXPECT_TRUE(has(text, R"(slipway_batches_closed_total{model="a\"b\\c",version="3",reason="delay"} 1)"));
  EXPECT_TRUE(has(text, R"(slipway_batching{model="a\"b\\c",version="3"} 1)"));
  EXPECT_NE(text.find("\nprocess_memory_limit_bytes "), std::string::npos);
  EXPECT_TRUE(text.ends_with("\n"));
}

TEST(Prometheus, GrowsWithWhatIsUsed) {
  std::vector<std::shared_ptr<ModelVersion>> versions;
  for (int i = 0; i < 20; ++i) versions.push_back(make_version(scaling_graph(2), fmt::format("model-{}", i)));
  auto server = make_server(versions);
  const size_t none = prometheus_text(*make_server({})).size(), idle = prometheus_text(*server).size();
  for (const auto& version : versions) {
    version->metrics().variants[0].requests += 2;
    version->metrics().variants[0].total_us.add(700);
    version->metrics().batch_rows.add(1);
  }
  const size_t used = prometheus_text(*server).size();
  EXPECT_LT((idle - none) / versions.size(), 2000u);
  EXPECT_LT((used - none) / versions.size(), 10'000u);
}

TEST(Prometheus, TheWeightsFollowTheRouting) {
  auto server = make_server({make_version(scaling_graph(2), "m", 1), make_version(scaling_graph(3), "m", 2)});
  server->route("m", {.stable = 1, .candidate = 2, .candidate_share = 1000});
  const std::string text = prometheus_text(*server);
  EXPECT_TRUE(has(text, "slipway_version_weight_ratio{model=\"m\",version=\"1\"} 0.9"));
  EXPECT_TRUE(has(text, "slipway_version_weight_ratio{model=\"m\",version=\"2\"} 0.1"));
}

TEST(Prometheus, PromtoolFindsNothing) {
  if (std::system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool is not installed";
  auto server = make_server({make_version(scaling_graph(2)), make_version(scaling_graph(2), "n", 7)});
  const std::string text = prometheus_text(*server);
  std::FILE* pipe = ::popen("promtool check metrics >&2", "w");
  ASSERT_NE(pipe, nullptr);
  EXPECT_EQ(std::fwrite(text.data(), 1, text.size(), pipe), text.size());
  EXPECT_EQ(::pclose(pipe), 0);
}

TEST(Process, FactsAreThere) {
  const ProcessFacts facts = process_facts();
  EXPECT_GT(facts.resident_bytes, uint64_t{1} << 20);
  EXPECT_GE(facts.memory_limit_bytes, facts.resident_bytes);
  EXPECT_GE(facts.threads, 1);
  EXPECT_GE(facts.open_files, 3);
  EXPECT_GT(facts.start_time_s, 1.6e9);
}

TEST(Process, TheSmallestMemoryLimitApplies) {
  const TestFolder folder;
  const std::string root = folder.path("limits");
  const auto put = [&](const std::string& path, const std::string& text) {
    make_folders(parent_folder(root + path));
    write_file(root + path, text);
  };
  EXPECT_EQ(memory_limit_bytes(root + "/nothing"), 0u);
  put("/proc/meminfo", "MemFree: 1 kB\nMemTotal:       1000 kB\n");
  put("/proc/self/cgroup", "5:cpu,memory:/old\n0::/a/b\n");
  EXPECT_EQ(memory_limit_bytes(root), 1000u * 1024);
  put("/sys/fs/cgroup/a/b/memory.max", "max\n");
  put("/sys/fs/cgroup/a/memory.max", "900000\n");
  EXPECT_EQ(memory_limit_bytes(root), 900000u);
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("/sys/fs/cgroup/memory/old/memory.limit_in_bytes", "800000\n");
  EXPECT_EQ(memory_limit_bytes(root), 800000u);
}

}  // namespace
}  // namespace slipway
