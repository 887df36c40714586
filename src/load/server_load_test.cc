// Load over HTTP against a real plane, recorded by the server and replayed.
#include <gtest/gtest.h>

#include "data/test_folder.h"
#include "load/load.h"
#include "load/load_samples.h"
#include "load/load_target.h"
#include "serve/grpc/grpc_plane.h"
#include "serve/http/http_plane.h"
#include "serve/serve_testing.h"
#include "serve/tls_testing.h"

namespace slipway {
namespace {

TEST(ServerLoad, ScoresRecordingAndReplay) {
  const TestFolder folder;
  const auto server = make_server({make_version(scaling_graph(2))});
  auto recorder = std::make_unique<Recorder>(RecordingOptions{.path = folder.path("live.rec")});
  server->observe([&](const Served& served) {
    if (recorder) recorder->record(served);
  });
  HttpPlane plane(*server, {.port = 0});
  plane.start();
  const std::string url = "http://127.0.0.1:" + std::to_string(plane.port());
  EXPECT_EQ(only_model(url), "m");
  const auto samples = random_samples(describe_model(url, "m"), 3);

  int scored = 0;
  LoadOptions options{
      .url = url, .concurrency = 8, .seconds = 30, .warm_up_seconds = 0, .max_requests = 100, .quiet = true};
  options.on_scores = [&](size_t sample, std::span<const float> scores, int64_t version) {
    float x = 0;
    std::memcpy(&x, samples[sample].inputs[0].bytes.data(), sizeof x);
    ASSERT_EQ(scores.size(), 4u);
    EXPECT_EQ(scores[0], 2 * x + 1);
    EXPECT_EQ(version, 1);
    ++scored;
  };
  const LoadResult r = run_load(options, samples);
  EXPECT_EQ(r.latency_us.count(), 100);
  EXPECT_TRUE(r.errors.empty()) << r.errors.begin()->first << r.error_texts.begin()->second;
  EXPECT_EQ(scored, 100);
  server->drain(10'000);
  plane.stop();
  recorder.reset();

  const auto records = read_recording(folder.path("live.rec"));
  ASSERT_EQ(records.size(), 100u);
  const auto again = make_server({make_version(scaling_graph(2))});
  HttpPlane second(*again, {.port = 0});
  second.start();
  options.url = "http://127.0.0.1:" + std::to_string(second.port());
  const auto replayed = recorded_samples(records, "", 1);
  options.on_scores = [&](size_t sample, std::span<const float> scores, int64_t) {
    float x = 0;
    std::memcpy(&x, replayed[sample].inputs[0].bytes.data(), sizeof x);
    EXPECT_EQ(scores[0], 2 * x + 1);
  };
  const LoadResult replay = run_load(options, replayed);
  EXPECT_EQ(replay.latency_us.count(), 100);
  EXPECT_GE(replay.seconds, static_cast<double>(replayed.back().at_us) * 1e-6);
  second.stop();
}

TEST(ServerLoad, HttpAndGrpcThroughTls) {
  const TestFolder folder;
  TestAuthority authority(folder, "authority");
  TlsFiles files = authority.issue("server");
  files.ca = authority.ca;
  const auto identity = std::make_shared<TlsIdentity>(files);
  const auto server = make_server({make_version(scaling_graph(2))});
  HttpPlane http(*server, {.port = 0, .tls = identity});
  GrpcPlane grpc(*server, {.port = 0, .tls = identity});
  http.start();
  grpc.start();
  TlsFiles client = authority.issue("client");
  client.ca = authority.ca;
  for (const std::string& url :
       {"https://127.0.0.1:" + std::to_string(http.port()), "grpcs://localhost:" + std::to_string(grpc.port())}) {
    EXPECT_EQ(only_model(url, client), "m");
    const auto samples = random_samples(describe_model(url, "m", "", client), 3);
    LoadOptions options{.url = url,
                        .tls = client,
                        .model = "m",
                        .concurrency = 8,
                        .seconds = 30,
                        .warm_up_seconds = 0,
                        .max_requests = 100,
                        .quiet = true};
    int scored = 0;
    options.on_scores = [&](size_t sample, std::span<const float> scores, int64_t) {
      float x = 0;
      std::memcpy(&x, samples[sample].inputs[0].bytes.data(), sizeof x);
      EXPECT_EQ(scores[0], 2 * x + 1);
      ++scored;
    };
    const LoadResult r = run_load(options, samples);
    EXPECT_EQ(r.latency_us.count(), 100);
    EXPECT_TRUE(r.errors.empty()) << r.errors.begin()->first << r.error_texts.begin()->second;
    EXPECT_EQ(scored, 100);
    EXPECT_NE(error_of([&] { describe_model(url, "m", "", {.ca = authority.ca}); }), "");
    EXPECT_NE(error_of([&] { only_model(url); }), "");
  }
  LoadOptions untrusting{.url = "https://localhost:" + std::to_string(http.port()),
                         .model = "m",
                         .seconds = 30,
                         .warm_up_seconds = 0,
                         .max_requests = 3,
                         .quiet = true};
  const LoadResult refused = run_load(untrusting, random_samples({"m", {{"x", DType::kFloat32, {1, 4}}}}, 1));
  EXPECT_EQ(refused.errors.at("tls"), 3);
  EXPECT_NE(refused.error_texts.at("tls").find("certificate"), std::string::npos);
  grpc.stop();
  http.stop();
}

TEST(ServerLoad, RefusalsAreErrorsByStatus) {
  const auto server = make_server({make_version(scaling_graph(2))});
  HttpPlane plane(*server, {.port = 0});
  plane.start();
  LoadOptions options{.url = "http://127.0.0.1:" + std::to_string(plane.port()),
                      .model = "m",
                      .seconds = 30,
                      .warm_up_seconds = 0,
                      .max_requests = 5,
                      .quiet = true};
  const auto wrong = random_samples({"m", {{"x", DType::kFloat32, {1, 5}}}}, 1);
  const LoadResult r = run_load(options, wrong);
  EXPECT_EQ(r.errors.at("400"), 5);
  EXPECT_NE(r.error_texts.at("400").find("error"), std::string::npos);
  options.model = "absent";
  EXPECT_EQ(run_load(options, wrong).errors.at("404"), 5);
}

}  // namespace
}  // namespace slipway
