// Load over gRPC against a real plane.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "load/load.h"
#include "load/load_samples.h"
#include "load/load_target.h"
#include "serve/grpc/grpc_plane.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

struct GrpcServer {
  explicit GrpcServer(std::vector<std::string> models = {"m"}) {
    std::vector<std::shared_ptr<ModelVersion>> versions;
    for (const std::string& model : models) versions.push_back(make_version(scaling_graph(2), model));
    server = make_server(versions);
    plane = std::make_unique<GrpcPlane>(*server, GrpcOptions{.port = 0});
    plane->start();
    url = "grpc://127.0.0.1:" + std::to_string(plane->port());
  }
  LoadOptions quick() const {
    return {.url = url, .seconds = 30, .warm_up_seconds = 0, .max_requests = 300, .quiet = true};
  }
  std::vector<LoadSample> samples() const { return random_samples(describe_model(url, "m"), 3); }

  std::unique_ptr<Server> server;
  std::unique_ptr<GrpcPlane> plane;
  std::string url;
};

TEST(GrpcLoad, ClosedLoopCountsExactly) {
  GrpcServer server;
  LoadOptions options = server.quick();
  options.concurrency = 20;
  std::atomic<int> scored{0};
  const auto samples = server.samples();
  options.on_scores = [&](size_t sample, std::span<const float> scores, int64_t version) {
    float x = 0;
    std::memcpy(&x, samples[sample].inputs[0].bytes.data(), sizeof x);
    ASSERT_EQ(scores.size(), 4u);
    EXPECT_EQ(scores[0], 2 * x + 1);
    EXPECT_EQ(version, 1);
    ++scored;
  };
  const LoadResult r = run_load(options, samples);
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.requests, 300);
  EXPECT_EQ(r.latency_us.count(), 300);
  EXPECT_EQ(scored, 300);
  EXPECT_TRUE(r.errors.empty());
  const auto& metrics = server.server->versions("m")[0]->metrics().variants[0];
  EXPECT_EQ(metrics.requests.load(), 300);
}

TEST(GrpcLoad, OpenLoopKeepsItsSchedule) {
  GrpcServer server;
  LoadOptions options = server.quick();
  options.rate = 1000;
  options.concurrency = 32;
  const LoadResult r = run_load(options, server.samples());
  EXPECT_EQ(r.requests, 300);
  EXPECT_GE(r.seconds, 0.29);
  EXPECT_TRUE(r.errors.empty());
}

TEST(GrpcLoad, ErrorsAreCountedByKind) {
  GrpcServer server;
  LoadOptions options = server.quick();
  options.model = "absent";
  options.max_requests = 10;
  const LoadResult r = run_load(options, server.samples());
  EXPECT_EQ(r.requests, 10);
  EXPECT_EQ(r.errors.at("NOT_FOUND"), 10);
  EXPECT_NE(r.error_texts.at("NOT_FOUND"), "");
}

TEST(GrpcLoad, AServerThatGoesAway) {
  GrpcServer server;
  LoadOptions options = server.quick();
  options.max_requests = 0;
  options.seconds = 1;
  options.concurrency = 2;
  const auto samples = server.samples();
  std::thread stopper([&] {
    const auto& requests = server.server->versions("m")[0]->metrics().variants[0].requests;
    while (requests < 50) std::this_thread::yield();
    server.plane->stop(0);
  });
  const LoadResult r = run_load(options, samples);
  stopper.join();
  EXPECT_GE(r.latency_us.count(), 48);
  EXPECT_GE(r.errors.at("UNAVAILABLE"), 1);
  EXPECT_LE(r.errors.at("UNAVAILABLE"), 40);  // it rests between attempts
  EXPECT_EQ(r.requests, r.latency_us.count() + r.error_count());
  EXPECT_THROW(ready_models("grpc://127.0.0.1:1"), Error);
}

TEST(GrpcLoad, AsksTheServer) {
  GrpcServer server({"m", "n"});
  EXPECT_EQ(ready_models(server.url), (std::vector<std::string>{"m", "n"}));
  EXPECT_THROW(run_load(server.quick(), server.samples()), Error);  // which of the two?
  const ModelDescription m = describe_model(server.url, "m");
  ASSERT_EQ(m.inputs.size(), 1u);
  EXPECT_EQ(m.inputs[0].dims, (Dims{-1, 4}));
  EXPECT_THROW(describe_model(server.url, "absent"), Error);
}

}  // namespace
}  // namespace slipway
