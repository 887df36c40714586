#include "load/load.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>

#include "load/http_client.h"
#include "load/load_run.h"
#include "load/load_target.h"
#include "load/load_testing.h"

namespace slipway {
namespace {

std::vector<LoadSample> floats(size_t samples, size_t values = 4) {
  std::vector<LoadSample> made(samples);
  for (size_t i = 0; i < samples; ++i) {
    auto owner = std::make_shared<std::vector<float>>(values, static_cast<float>(i));
    made[i].inputs = {
        {"x", DType::kFloat32, {1, static_cast<int64_t>(values)}, std::as_bytes(std::span<const float>(*owner))}};
    made[i].owner = owner;
  }
  return made;
}

LoadOptions quick(const TestServer& server) {
  return {.url = server.url(), .model = "m", .seconds = 30, .warm_up_seconds = 0, .max_requests = 200, .quiet = true};
}

std::string scores_reply(float score) {
  const std::string json =
      R"({"model_name":"m","model_version":"7","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"parameters":{"binary_data_size":4}}]})";
  std::string body = json;
  body.append(reinterpret_cast<const char*>(&score), sizeof score);
  return TestServer::reply(body, 200, "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n");
}

TEST(Pacer, EqualAndPoissonGaps) {
  Pacer equal(1000, false, 1);
  EXPECT_EQ(equal.next_ns(), 0);
  EXPECT_EQ(equal.next_ns(), 1'000'000);
  EXPECT_EQ(equal.next_ns(), 2'000'000);
  Pacer poisson(1000, true, 1), again(1000, true, 1);
  double last = 0, square = 0;
  constexpr int kCount = 20'000;
  for (int i = 0; i <= kCount; ++i) {
    const auto at = static_cast<double>(poisson.next_ns());
    EXPECT_EQ(at, static_cast<double>(again.next_ns()));
    square += (at - last) * (at - last);
    last = at;
  }
  EXPECT_NEAR(last / kCount, 1e6, 3e4);
  EXPECT_NEAR(square / kCount, 2e12, 1.5e11);  // an exponential's second moment
}

TEST(LoadUrl, NamesAServer) {
  EXPECT_EQ(parse_load_url("http://a").port, 8000);
  EXPECT_EQ(parse_load_url("https://a").port, 8000);
  EXPECT_EQ(parse_load_url("grpcs://a/").port, 8001);
  EXPECT_TRUE(is_grpc(parse_load_url("grpc://a")) && is_grpc(parse_load_url("grpcs://a")));
  EXPECT_FALSE(is_grpc(parse_load_url("https://a")));
  for (const char* bad : {"a:1", "ftp://a", "http://a/b", "http://a?b"})
    EXPECT_THROW(parse_load_url(bad), Error) << bad;
}

TEST(ResponseHead, WholeCutAndMalformed) {
  const std::string whole =
      "HTTP/1.1 200 OK\r\ncontent-length:  5 \r\nInference-Header-Content-Length: 3\r\nX: y\r\n\r\nhello";
  ResponseHead head;
  EXPECT_EQ(parse_response_head(whole, head), HeadState::kComplete);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body_bytes, 5u);
  EXPECT_EQ(head.inference_header_bytes, 3u);
  EXPECT_EQ(head.head_bytes, whole.size() - 5);
  EXPECT_TRUE(head.keep_alive);
  for (size_t length = 0; length < head.head_bytes; ++length)
    EXPECT_EQ(parse_response_head(whole.substr(0, length), head), HeadState::kIncomplete) << length;
  EXPECT_EQ(parse_response_head("HTTP/1.1 503 X\r\nConnection: close\r\n\r\n", head), HeadState::kComplete);
  EXPECT_FALSE(head.keep_alive);
  EXPECT_TRUE(head.until_close);
  for (const char* bad :
       {"SSH-2.0", "HTTP/2 200\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"})
    EXPECT_EQ(parse_response_head(bad, head), HeadState::kMalformed) << bad;
  EXPECT_EQ(parse_response_head("HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'a'), head), HeadState::kMalformed);
}

TEST(Load, ClosedLoopCountsExactly) {
  std::atomic<int64_t> bytes{0};
  TestServer server([&](const TestServer::Request& r) {
    bytes += static_cast<int64_t>(r.body.size());
    if (r.path != "/v2/models/m/versions/3/infer") return TestServer::reply("{}", 404);
    return TestServer::reply(std::string(3000, 'x'));
  });
  LoadOptions options = quick(server);
  options.concurrency = 4;
  options.version = "3";
  const LoadResult r = run_load(options, floats(3, 3000));
  EXPECT_EQ(r.requests, 200);
  EXPECT_EQ(server.requests(), 200);
  EXPECT_EQ(server.connections(), 4 + 1);  // one to see whether the server is there
  EXPECT_EQ(r.latency_us.count(), 200);
  EXPECT_EQ(r.service_us.count(), 200);
  EXPECT_TRUE(r.errors.empty());
  EXPECT_GT(bytes, 200 * 12'000);
  EXPECT_GT(r.throughput_per_s, 0);
  EXPECT_NEAR(r.throughput_per_s * r.seconds, 200, 4);
  EXPECT_EQ(r.model, "m");
}

TEST(Load, SendsWhatTheProtocolAsksFor) {
  std::string head, body;
  TestServer server([&](const TestServer::Request& r) {
    head = r.head;
    body = r.body;
    return scores_reply(0);
  });
  LoadOptions options = quick(server);
  options.max_requests = 1;
  auto samples = floats(1);
  samples[0].id = "r\"1";
  run_load(options, samples);
  const size_t json = body.size() - 16;
  EXPECT_NE(head.find("Inference-Header-Content-Length: " + std::to_string(json)), std::string::npos) << head;
  EXPECT_EQ(
      body.substr(0, json),
      R"({"id":"r\"1","inputs":[{"datatype":"FP32","name":"x","parameters":{"binary_data_size":16},"shape":[1,4]}],)"
      R"("parameters":{"binary_data_output":true}})");
  EXPECT_EQ(std::memcmp(body.data() + json, samples[0].inputs[0].bytes.data(), 16), 0);
  options.predict = true;
  samples[0].picture = "\x89PNG…";
  options.model = "a/b";
  run_load(options, samples);
  EXPECT_TRUE(head.starts_with("POST /predict?model=a%2Fb HTTP/1.1\r\n")) << head;
  EXPECT_NE(head.find("Content-Type: image/png"), std::string::npos);
  EXPECT_EQ(body, samples[0].picture);
}

TEST(Load, ErrorsAreCountedByKind) {
  std::atomic<int> number{0};
  TestServer server([&](const TestServer::Request&) -> std::string {
    switch (number++ % 4) {
      case 0:
        return TestServer::reply("fine");
      case 1:
        return TestServer::reply("{\"error\": \"too much\"}", 503);
      case 2:
        return "nonsense\r\n\r\n";
      default:
        return TestServer::reply("gone", 500, "Connection: close\r\n");
    }
  });
  LoadOptions options = quick(server);
  const LoadResult r = run_load(options, floats(2));
  EXPECT_EQ(r.requests, 200);
  EXPECT_EQ(r.latency_us.count(), 50);
  EXPECT_EQ(r.errors, (std::map<std::string, int64_t>{{"500", 50}, {"503", 50}, {"malformed", 50}}));
  EXPECT_EQ(r.error_texts.at("503"), "{\"error\": \"too much\"}");
  EXPECT_EQ(r.error_count(), 150);
  EXPECT_DOUBLE_EQ(r.error_rate(), 0.75);
}

TEST(Load, AKeptConnectionThatEndsIsNoError) {
  std::atomic<int> number{0};
  TestServer server([&](const TestServer::Request&) -> std::string {
    return ++number % 3 == 0 ? "" : TestServer::reply("fine");  // every third request meets a closing connection
  });
  const LoadResult r = run_load(quick(server), floats(1));
  EXPECT_EQ(r.requests, 200);
  EXPECT_TRUE(r.errors.empty());
}

TEST(Load, TimeoutsAndAServerThatGoesAway) {
  TestServer stuck([&](const TestServer::Request&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    return TestServer::reply("late");
  });
  LoadOptions options = quick(stuck);
  options.max_requests = 2;
  options.concurrency = 2;
  options.timeout_seconds = 0.05;
  EXPECT_EQ(run_load(options, floats(1)).errors.at("timeout"), 2);

  std::atomic<int> number{0};
  TestServer* leaving = nullptr;
  std::thread stopper;
  TestServer server([&](const TestServer::Request&) {
    if (++number == 20) stopper = std::thread([&] { leaving->stop(); });
    return TestServer::reply("fine");
  });
  leaving = &server;
  options = quick(server);
  options.max_requests = 0;
  options.seconds = 1;
  const LoadResult r = run_load(options, floats(1));
  stopper.join();
  EXPECT_GE(r.latency_us.count(), 19);
  EXPECT_GE(r.errors.at("connect"), 1);
  EXPECT_LE(r.errors.at("connect"), 20);  // it rests between attempts
  EXPECT_EQ(r.requests, r.latency_us.count() + r.error_count());
  EXPECT_THROW(run_load(options, floats(1)), Error);  // now it can't be reached at all
}

constexpr int64_t kStallUs = 300'000;

/// Stalls everyone once, at its 101st request.
struct StallingServer {
  std::atomic<int> number{0};
  std::mutex stall;
  TestServer server{[this](const TestServer::Request&) {
    const std::lock_guard lock(stall);
    if (++number == 101) std::this_thread::sleep_for(std::chrono::microseconds(kStallUs));
    return TestServer::reply("fine");
  }};
};

TEST(Load, AStallShowsInTheOpenLoop) {
  for (const int concurrency : {1, 64}) {
    StallingServer stalling;
    LoadOptions options = quick(stalling.server);
    options.rate = 500;
    options.concurrency = concurrency;
    options.max_requests = 500;
    const LoadResult r = run_load(options, floats(1));
    EXPECT_EQ(r.requests, 500);
    EXPECT_GT(r.latency_us.quantile(0.99), kStallUs / 2);
    EXPECT_NEAR(r.offered_per_s, 500, 50);
    if (concurrency == 1) {  // one connection: requests were sent late, and that counts
      EXPECT_LT(r.service_us.quantile(0.99), kStallUs / 2);
      EXPECT_GT(r.late_starts, 50);
      EXPECT_GT(r.max_lateness_ms, kStallUs / 2000);
      EXPECT_FALSE(r.kept_up);
    }
  }
}

TEST(Load, AStallHidesInTheClosedLoop) {
  StallingServer stalling;
  LoadOptions options = quick(stalling.server);
  options.max_requests = 500;
  const LoadResult r = run_load(options, floats(1));
  EXPECT_LT(r.latency_us.quantile(0.5), kStallUs / 2);
  EXPECT_LT(r.latency_us.quantile(0.99), kStallUs / 2);
  EXPECT_GE(r.latency_us.max(), kStallUs);
  EXPECT_EQ(r.late_starts, 0);
}

TEST(Load, ScoresReachTheCaller) {
  TestServer server([](const TestServer::Request& r) {
    float first = 0;
    std::memcpy(&first, r.body.data() + r.body.size() - 16, sizeof first);
    return first == 2 ? TestServer::reply("{}") : scores_reply(10 * first);
  });
  LoadOptions options = quick(server);
  std::map<size_t, int> seen;
  options.on_scores = [&](size_t sample, std::span<const float> scores, int64_t version) {
    ASSERT_EQ(scores.size(), 1u);
    EXPECT_EQ(scores[0], 10.0f * static_cast<float>(sample));
    EXPECT_EQ(version, 7);
    ++seen[sample];
  };
  options.max_requests = 90;
  const LoadResult r = run_load(options, floats(3));
  EXPECT_EQ(seen[0], 30);
  EXPECT_EQ(seen[1], 30);
  EXPECT_EQ(r.errors.at("malformed"), 30);
}

TEST(Load, ReplaysAtTheRecordedTimes) {
  TestServer server([](const TestServer::Request&) { return TestServer::reply("fine"); });
  auto samples = floats(5);
  for (size_t i = 0; i < samples.size(); ++i) samples[i].at_us = static_cast<int64_t>(i) * 40'000;
  LoadOptions options = quick(server);
  options.max_requests = 5;
  options.concurrency = 8;
  const LoadResult r = run_load(options, samples);
  EXPECT_EQ(r.requests, 5);
  EXPECT_GE(r.seconds, 0.16);
}

TEST(Load, TheServersProcessIsSeen) {
  TestServer server([](const TestServer::Request& r) {
    return TestServer::reply(r.path == "/metrics" ? "# HELP x y\nprocess_resident_memory_bytes 104857600\n"
                                                    "process_cpu_seconds_total 12.5\nprocess_cpu_seconds_total_x 3\n"
                                                  : "fine");
  });
  LoadOptions options = quick(server);
  options.admin_url = server.url();
  options.max_requests = 0;
  options.seconds = 2;
  options.warm_up_seconds = 0.2;
  const LoadResult r = run_load(options, floats(1));
  ASSERT_EQ(r.series.size(), 2u);
  EXPECT_DOUBLE_EQ(r.series[1].t_s, 2);
  EXPECT_EQ(r.series[1].server_rss_mb, 100);
  EXPECT_GT(r.series[0].throughput, 0);
  EXPECT_NEAR(r.seconds, 2, 1e-9);
  TestServer other([](const TestServer::Request&) { return TestServer::reply("no metrics"); });
  options.admin_url = other.url();
  EXPECT_THROW(run_load(options, floats(1)), Error);
}

TEST(LoadRun, BooksWithoutAClock) {
  constexpr int64_t kMs = 1'000'000;
  const auto samples = floats(2);
  const LoadOptions options{.rate = 100, .seconds = 1, .warm_up_seconds = 0.1, .quiet = true};
  LoadRun run(options, samples, 0);
  int64_t now = 0, taken = 0;
  for (; !run.over(now); now += 10 * kMs) {
    run.tick(now);
    if (now >= 600 * kMs && now < 800 * kMs) continue;  // the sender is away
    while (const auto ticket = run.take(now)) {
      EXPECT_EQ(ticket->due_ns, taken * 10 * kMs);
      EXPECT_EQ(ticket->sample, static_cast<size_t>(taken++ % 2));
      EXPECT_EQ(ticket->counted, ticket->due_ns >= 100 * kMs);
      run.finish(*ticket, now + 2 * kMs, {.error = taken % 10 == 0 ? "503" : ""});
    }
  }
  const LoadResult r = run.result(now);
  EXPECT_EQ(taken, 110);
  EXPECT_EQ(r.requests, 100);
  EXPECT_EQ(r.errors.at("503"), 10);
  EXPECT_EQ(r.late_starts, 20);
  EXPECT_DOUBLE_EQ(r.max_lateness_ms, 200);
  EXPECT_FALSE(r.kept_up);
  EXPECT_DOUBLE_EQ(r.throughput_per_s, 90);
  EXPECT_DOUBLE_EQ(r.offered_per_s, 100);
  EXPECT_NEAR(r.latency_us.quantile(0.5), 2000, 20);
  EXPECT_NEAR(static_cast<double>(r.latency_us.max()), 202'000, 2000);
  EXPECT_NEAR(static_cast<double>(r.service_us.max()), 2000, 20);
  ASSERT_EQ(r.series.size(), 1u);
  EXPECT_EQ(r.series[0].errors, 10);
}

TEST(LoadRun, WhatWasNeverSentIsSaid) {
  const auto samples = floats(1);
  const LoadOptions options{.rate = 10, .seconds = 1, .warm_up_seconds = 0, .quiet = true};
  LoadRun run(options, samples, 0);
  const auto first = run.take(0);
  ASSERT_TRUE(first);
  const LoadResult r = run.result(1'000'000'000);
  EXPECT_EQ(r.unsent, 9);
  EXPECT_FALSE(r.kept_up);
  EXPECT_DOUBLE_EQ(r.max_lateness_ms, 900);
  EXPECT_DOUBLE_EQ(r.offered_per_s, 10);
  const LoadOptions few{.rate = 10, .seconds = 1, .warm_up_seconds = 0, .max_requests = 5, .quiet = true};
  LoadRun bounded(few, samples, 0);
  ASSERT_TRUE(bounded.take(0));
  EXPECT_EQ(bounded.result(1'000'000'000).unsent, 4);
}

TEST(LoadRun, ADayHasBoundedPoints) {
  const auto samples = floats(1);
  const LoadOptions options{.rate = 1, .seconds = 86'400, .warm_up_seconds = 0, .quiet = true};
  LoadRun run(options, samples, 0);
  while (const auto ticket = run.take(86'399'000'000'000)) run.finish(*ticket, ticket->due_ns + 1000, {});
  const LoadResult r = run.result(86'400'000'000'000);
  EXPECT_EQ(r.requests, 86'400);
  EXPECT_EQ(r.point_seconds, 24);
  EXPECT_EQ(r.series.size(), 3600u);
  EXPECT_DOUBLE_EQ(r.series[5].throughput, 1);
}

TEST(Load, RefusesWhatMakesNoSense) {
  TestServer server([](const TestServer::Request&) { return TestServer::reply("fine"); });
  const auto refuses = [&](const std::function<void(LoadOptions&)>& spoil, const std::vector<LoadSample>& samples) {
    LoadOptions options = quick(server);
    options.max_requests = 1;
    spoil(options);
    EXPECT_THROW(run_load(options, samples), Error);
  };
  refuses([](LoadOptions&) {}, {});
  refuses([](LoadOptions& o) { o.concurrency = 0; }, floats(1));
  refuses([](LoadOptions& o) { o.rate = -1; }, floats(1));
  refuses([](LoadOptions& o) { o.rate = std::nan(""); }, floats(1));
  refuses([](LoadOptions& o) { o.seconds = 0; }, floats(1));
  refuses([](LoadOptions& o) { o.timeout_seconds = 0; }, floats(1));
  refuses([](LoadOptions& o) { o.predict = true; }, floats(1));
  refuses([](LoadOptions& o) { o.url = "ftp://a"; }, floats(1));
  refuses([](LoadOptions& o) { o.url = "http://127.0.0.1:1"; }, floats(1));
  EXPECT_EQ(server.requests(), 0);
}

TEST(LoadTarget, AsksTheServer) {
  std::string index = R"([{"name":"b","version":"1","state":"READY"},{"name":"a","version":"2","state":"READY"},
                          {"name":"a","version":"1","state":"READY"},{"name":"c","state":"UNAVAILABLE"}])";
  TestServer server([&](const TestServer::Request& r) {
    if (r.method == "POST" && r.path == "/v2/repository/index") return TestServer::reply(index);
    if (r.path == "/v2/models/a")
      return TestServer::reply(R"({"name":"a","inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}]})");
    return TestServer::reply(R"({"error":"There is no model."})", 404);
  });
  EXPECT_EQ(ready_models(server.url()), (std::vector<std::string>{"a", "b"}));
  try {
    only_model(server.url());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a, b"), std::string::npos);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
  index = R"([{"name":"b","version":"1","state":"READY"}])";
  EXPECT_EQ(only_model(server.url()), "b");
  index = "[]";
  EXPECT_THROW(only_model(server.url()), Error);
  index = R"([{"version":1}])";
  EXPECT_THROW(only_model(server.url()), Error);
  const ModelDescription a = describe_model(server.url(), "a");
  ASSERT_EQ(a.inputs.size(), 1u);
  EXPECT_EQ(a.inputs[0].dims, (Dims{-1, 4}));
  EXPECT_EQ(a.inputs[0].dtype, DType::kFloat32);
  try {
    describe_model(server.url(), "z");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_NE(std::string(error.what()).find("There is no model."), std::string::npos);
  }
}

}  // namespace
}  // namespace slipway
