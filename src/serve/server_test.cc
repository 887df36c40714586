#include "serve/server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "base/clock.h"
#include "engine/engine_testing.h"
#include "model/evaluate.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

template <typename Body>
ErrorCode code_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(Server, AnswersEveryRowCountAsTheReferenceDoes) {
  Random random(1);
  const Graph graph = scaling_graph(2);
  auto server = make_server({make_version(graph)});
  for (int64_t rows = 1; rows < 40; ++rows) {
    const Tensor x = random_tensor(DType::kFloat32, {rows, 4}, random);
    const InferResponse r = infer_and_wait(*server, request_of(x, "id7"));
    ASSERT_FALSE(r.error) << r.message;
    EXPECT_EQ(r.id, "id7");
    EXPECT_EQ(r.version, 1);
    EXPECT_EQ(difference(to_tensor(r.outputs.at(0)), evaluate(graph, std::span(&x, 1))[0]), "");
  }
}

TEST(Server, ManyCallersAtOnceEachGetTheirOwnAnswer) {
  auto server = make_server({make_version(scaling_graph(3), "m", 1, {.batching = {.max_rows = 8}, .instances = 2})});
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([&, c] {
      for (int i = 0; i < 200; ++i) {
        const auto v = static_cast<float>(c * 1000 + i);
        const InferResponse r = infer_and_wait(*server, request_of(Tensor::of<float>({1, 4}, {v, 0, 0, v})));
        const Tensor y = r.error ? Tensor() : to_tensor(r.outputs.at(0));
        if (r.error || y.values<float>()[0] != 3 * v + 1 || y.values<float>()[1] != 1) ++wrong;
      }
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(server->versions("m")[0]->metrics().variants[0].requests, 1600);
  EXPECT_GT(server->versions("m")[0]->metrics().last_inference_ms, int64_t{1'600'000'000'000});
  EXPECT_TRUE(server->drain(10'000)) << "a request is counted for ever";
}

TEST(Server, RequestsThatDoNotFitAreTheCallersFault) {
  auto server = make_server({make_version(scaling_graph(1))});
  const auto answer = [&](auto change) {
    InferRequest request = request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4}));
    change(request);
    return infer_and_wait(*server, std::move(request));
  };
  using R = InferRequest;
  for (const auto& r :
       {answer([](R& q) { q.inputs[0].name = "z"; }), answer([](R& q) { q.inputs.clear(); }),
        answer([](R& q) { q.inputs[0].dtype = DType::kInt32; }), answer([](R& q) {
          q.inputs[0].dims = {1, 5};
        }),
        answer([](R& q) { q.inputs[0].dims = {4}; }), answer([](R& q) {
          q.inputs[0].dims = {-1, 4};
        }),
        answer([](R& q) {
          q.inputs[0].dims = {0, 4};
        }),
        answer([](R& q) {
          q.inputs[0].dims = {int64_t{1} << 62, 4};
        }),
        answer([](R& q) { q.inputs[0].bytes = q.inputs[0].bytes.first(15); }),
        answer([](R& q) { q.inputs.push_back(q.inputs[0]); }), answer([](R& q) { q.outputs = {"nope"}; })}) {
    ASSERT_TRUE(r.error);
    EXPECT_EQ(http_status(*r.error), 400) << r.message;
  }
  EXPECT_EQ(code_of([&] { server->target("nope", "", ""); }), ErrorCode::kNotFound);
  EXPECT_EQ(code_of([&] { server->target("m", "7", ""); }), ErrorCode::kNotFound);
  EXPECT_EQ(code_of([&] { server->target("m", "x", ""); }), ErrorCode::kInvalidArgument);
}

/// y [N,3] = the three numbers of each row's word; there are 8 words.
Graph words_graph() {
  Graph g;
  g.opsets[""] = 13;
  std::vector<float> table(24);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i);
  const ValueId words = g.add_constant("words", Tensor::of<float>({8, 3}, table));
  const ValueId x = g.add_input("x", DType::kInt64, Shape({Dim("N")}));
  g.add_output(g.add_node({.op_type = "Gather", .name = "gather", .inputs = {words, x}}, "y"));
  infer_shapes(g);
  return g;
}

TEST(Server, OneCallersFaultIsOneCallers) {
  auto server = make_server({make_version(words_graph(), "m", 1, {.batching = {.max_rows = 16}})});
  ASSERT_TRUE(server->versions("m")[0]->batching().proven);
  Gate gate(*server);
  Answer holding;
  server->infer(server->target("m", "", ""), request_of(Tensor::of<int64_t>({1}, {0}), "gate"), holding.done());
  gate.await_held();
  // What waits behind the gate is computed together: requests of 1 to 3 rows, 37 in all, a bad word in two of them.
  constexpr int kRequests = 19;
  std::vector<Answer> answers(kRequests);
  for (int i = 0; i < kRequests; ++i) {
    std::vector<int64_t> words;
    for (int row = 0; row < 1 + i % 3; ++row)
      words.push_back((i == 4 || i == 9) && row == i % 3 ? 8 + i : (i + row) % 8);
    const auto rows = static_cast<int64_t>(words.size());
    InferRequest request = request_of(Tensor::of<int64_t>({rows}, words));
    if (i == 4) request.deadline_ns = now_ns() + 60'000'000'000;
    server->infer(server->target("m", "", ""), std::move(request), answers[static_cast<size_t>(i)].done());
  }
  gate.open();
  for (int i = 0; i < kRequests; ++i) {
    const InferResponse& r = answers[static_cast<size_t>(i)].wait();
    if (i == 4 || i == 9) {
      EXPECT_EQ(r.error, ErrorCode::kInvalidArgument) << i;
      EXPECT_NE(r.message.find(std::to_string(8 + i)), std::string::npos) << r.message;
      continue;
    }
    ASSERT_FALSE(r.error) << i << r.message;
    const Tensor y = to_tensor(r.outputs.at(0));
    ASSERT_EQ(y.dims(), (Dims{1 + i % 3, 3}));
    for (int row = 0; row < 1 + i % 3; ++row)
      EXPECT_EQ(y.values<float>()[static_cast<size_t>(row) * 3], static_cast<float>((i + row) % 8 * 3)) << i;
  }
  EXPECT_TRUE(server->drain(10'000));
  const VariantSnapshot counted = snapshot(server->versions("m")[0]->metrics().variants[0]);
  EXPECT_EQ(counted.requests, kRequests + 1);
  EXPECT_EQ(counted.errors[static_cast<size_t>(ErrorCode::kInvalidArgument)], 2);
  EXPECT_EQ(counted.errors[static_cast<size_t>(ErrorCode::kInvalidModel)], 0);
  EXPECT_EQ(counted.faults(), 0);
}

TEST(Server, OnlyRoutingMakesAVersionLiveAndSharesAreSticky) {
  Server server({});
  server.add(make_version(scaling_graph(1), "m", 1));
  EXPECT_FALSE(server.ready());
  EXPECT_EQ(code_of([&] { server.target("m", "", ""); }), ErrorCode::kNotFound);
  EXPECT_EQ(server.target("m", "1", "").variant, Variant::kPinned);
  EXPECT_EQ(code_of([&] { server.route("m", {.stable = 2}); }), ErrorCode::kNotFound);
  server.add(make_version(scaling_graph(2), "m", 2));
  server.route("m", {.stable = 1, .candidate = 2, .candidate_share = 1000});
  EXPECT_TRUE(server.ready());
  int candidates = 0;
  std::vector<bool> before;
  for (int user = 0; user < 5000; ++user) {
    const Target t = server.target("m", "", "user" + std::to_string(user));
    EXPECT_EQ(t.version->version(), t.variant == Variant::kCandidate ? 2 : 1);
    before.push_back(t.variant == Variant::kCandidate);
    candidates += before.back();
  }
  EXPECT_NEAR(candidates, 500, 100);
  server.route("m", {.stable = 1, .candidate = 2, .candidate_share = 5000});
  for (int user = 0; user < 5000; ++user)
    if (before[static_cast<size_t>(user)]) {
      ASSERT_EQ(server.target("m", "", "user" + std::to_string(user)).variant, Variant::kCandidate);
    }
}

TEST(Server, UnloadAnswersWhatItHasAndDestroysOffTheComputingThreads) {
  auto server = make_server({make_version(scaling_graph(1))});
  std::weak_ptr<ModelVersion> version = server->versions("m")[0];
  std::vector<std::unique_ptr<Answer>> answers;
  for (int i = 0; i < 50; ++i) {
    answers.push_back(std::make_unique<Answer>());
    server->infer(server->target("m", "", ""), request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})),
                  answers.back()->done());
  }
  server->unload("m");
  for (auto& answer : answers) EXPECT_FALSE(answer->wait().error);
  EXPECT_EQ(code_of([&] { server->target("m", "", ""); }), ErrorCode::kNotFound);
  for (int i = 0; i < 500 && !version.expired(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(version.expired());
}

// A matrix product large enough that requests pile up behind it.
Graph slow_graph() {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.add_input("x", DType::kFloat32, Shape({Dim(1), Dim(1200), Dim(1200)}));
  const ValueId y = g.add_node({.op_type = "MatMul", .name = "a", .inputs = {x, x}}, "a");
  g.add_output(g.add_node({.op_type = "MatMul", .name = "b", .inputs = {y, x}}, "y"));
  infer_shapes(g);
  return g;
}

TEST(Server, DeadlinesAndAFullQueueAreAnsweredWhileComputing) {
  auto server = make_server({make_version(scaling_graph(2), "m", 1, {.batching = {.max_queue = 2}})});
  Gate gate(*server);
  Answer holding;
  const Tensor x = Tensor::of<float>({1, 4}, {1, 2, 3, 4});
  server->infer(server->target("m", "", ""), request_of(x, "gate"), holding.done());
  gate.await_held();
  const auto send = [&](Answer& answer, int64_t deadline_ns) {
    InferRequest request = request_of(x);
    request.deadline_ns = deadline_ns;
    server->infer(server->target("m", "", ""), std::move(request), answer.done());
  };
  Answer late, expiring;
  send(late, now_ns() - 1);
  EXPECT_EQ(late.wait().error, ErrorCode::kOverloaded) << "refused before it is queued";
  send(expiring, now_ns() + 50'000'000);
  const std::optional<ErrorCode> why = expiring.wait().error;
  EXPECT_TRUE(why == ErrorCode::kDeadline || why == ErrorCode::kOverloaded) << "on a machine that was too slow";
  std::vector<Answer> answers(6);
  for (Answer& answer : answers) send(answer, 0);
  for (size_t i = 2; i < answers.size(); ++i) {
    const InferResponse& refused = answers[i].wait();  // while the others wait
    EXPECT_EQ(refused.error, ErrorCode::kOverloaded) << i;
    EXPECT_GE(refused.retry_after_s, 1);
  }
  gate.open();
  EXPECT_FALSE(holding.wait().error);
  EXPECT_FALSE(answers[0].wait().error);
  EXPECT_FALSE(answers[1].wait().error);
}

TEST(Server, AVersionKeepsTheTimeThatItIsHanded) {
  constexpr int64_t kAllowedNs = 60'000'000'000;  // more than a busy machine may expect to take
  std::atomic<int64_t> time{1000};
  VersionSource source = make_version(scaling_graph(2))->source();
  auto server = make_server({std::make_shared<ModelVersion>(std::move(source), [&] { return time.load(); })});
  const auto ask = [&] {
    InferRequest request = request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4}));
    request.arrival_ns = 1000;
    request.deadline_ns = 1000 + kAllowedNs;
    return infer_and_wait(*server, std::move(request));
  };
  const InferResponse in_time = ask();
  EXPECT_FALSE(in_time.error) << in_time.message;
  EXPECT_EQ(in_time.total_ns, 0);
  time = 1000 + 2 * kAllowedNs;
  const InferResponse late = ask();
  EXPECT_EQ(late.error, ErrorCode::kOverloaded);
  EXPECT_EQ(late.total_ns, 2 * kAllowedNs);
}

TEST(Server, ShortDeadlinesOfCallersAreToldFromTheServersOwn) {
  auto server = make_server({make_version(slow_graph()), make_version(slow_graph(), "timed", 1, {.timeout_ms = 1})});
  const auto late = [&](const std::string& model, int64_t allowed_ns) {
    InferRequest request = request_of(Tensor(DType::kFloat32, {1, 1200, 1200}));
    request.arrival_ns = now_ns();
    if (allowed_ns != 0) request.deadline_ns = request.arrival_ns + allowed_ns;
    EXPECT_TRUE(infer_and_wait(*server, std::move(request), model).error);
    const VariantSnapshot seen = snapshot(server->versions(model)[0]->metrics().variants[0]);
    EXPECT_EQ(seen.timeouts() + seen.rejections(), seen.requests);
    return seen.missed_us;
  };
  EXPECT_EQ(late("m", 500'000).count(), 1);
  EXPECT_EQ(late("m", 500'000).sum(), 1000);
  EXPECT_EQ(late("timed", 0).count(), 0) << "the configuration's deadline";
  EXPECT_EQ(late("timed", 2'000'000).count(), 0) << "a caller who allows more than that";
  EXPECT_EQ(late("timed", 500'000).count(), 1);
}

TEST(Server, AnswersWithNaNAreCounted) {
  const auto counted = [](DType dtype, const std::vector<double>& values) {
    auto server = make_server({make_version(identity_graph(dtype, Shape({Dim("N"), Dim(3)})))});
    const InferResponse r = infer_and_wait(*server, request_of(from_doubles(dtype, {1, 3}, values)));
    EXPECT_FALSE(r.error) << r.message;
    return snapshot(server->versions("m")[0]->metrics().variants[0]).with_nan;
  };
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kFloat16}) {
    EXPECT_EQ(counted(dtype, {1, -INFINITY, -0.0}), 0);
    EXPECT_EQ(counted(dtype, {1, INFINITY, -NAN}), 1);
    EXPECT_EQ(counted(dtype, {NAN, 1, NAN}), 1) << "an answer, not an element";
  }
  EXPECT_EQ(counted(DType::kInt32, {-1, -2, -3}), 0);
}

TEST(Server, WhatTheLiveVersionTakesACandidateMustTake) {
  auto server = make_server({make_version(scaling_graph(1))});
  Graph other = scaling_graph(2);
  other.rename(other.inputs()[0], "renamed");
  server->add(make_version(std::move(other), "m", 2));
  Graph more = scaling_graph(2);
  more.rename(more.outputs()[0], "renamed");
  server->add(make_version(std::move(more), "m", 3));
  InferRequest asks = request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4}));
  asks.outputs = {"y"};
  for (const int64_t candidate : {2, 3}) {
    server->route("m", {.stable = 1, .candidate = candidate, .candidate_share = 10'000});
    const InferResponse fault = infer_and_wait(*server, InferRequest(asks));
    EXPECT_EQ(fault.error, ErrorCode::kInternal);
    EXPECT_NE(fault.message.find("candidate does not take"), std::string::npos) << fault.message;
    InferRequest wrong = asks;
    wrong.inputs[0].name = "nobody's";
    EXPECT_EQ(infer_and_wait(*server, std::move(wrong)).error, ErrorCode::kInvalidArgument) << "neither takes it";
    for (const auto& version : server->versions("m"))
      if (version->version() == candidate) {
        EXPECT_EQ(snapshot(version->metrics().variants[1]).faults(), 1);
      }
  }
}

TEST(Server, ARouteCanNameTheBytesThatItMeans) {
  auto server = make_server({make_version(scaling_graph(1))});  // SHA-256 "1"
  EXPECT_EQ(code_of([&] { server->route("m", {.stable = 1}, {{1, "others"}}); }), ErrorCode::kVerificationFailed);
  server->route("m", {.stable = 1}, {{1, "1"}, {2, "of no matter"}});
}

TEST(Server, DrainRefusesNewRequestsAndWaitsForTheOthers) {
  auto server = make_server({make_version(slow_graph())});
  const Target target = server->target("m", "", "");
  Answer answer;
  server->infer(target, request_of(Tensor(DType::kFloat32, {1, 1200, 1200})), answer.done());
  EXPECT_TRUE(server->drain(60'000));
  EXPECT_EQ(answer.count(), 1);
  EXPECT_FALSE(server->ready());
  EXPECT_EQ(code_of([&] { server->target("m", "", ""); }), ErrorCode::kOverloaded);
}

TEST(Server, ObserversSeeRequestAndResponse) {
  auto server = make_server({make_version(scaling_graph(1))});
  std::atomic<int> seen{0};
  server->observe([&](const Served& s) {
    if (s.request.id == "a" && s.response.outputs.size() == 1 && s.variant == Variant::kStable) ++seen;
  });
  infer_and_wait(*server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4}), "a"));
  EXPECT_EQ(seen, 1);
}

TEST(Server, StringsRunByTheReference) {
  auto server = make_server({make_version(identity_graph(DType::kString, Shape({Dim("N")})))});
  const Tensor x = Tensor::of_strings({2}, {"hello", std::string("a\0b", 3)});
  const InferResponse r = infer_and_wait(*server, request_of(x));
  ASSERT_FALSE(r.error) << r.message;
  EXPECT_TRUE(to_tensor(r.outputs.at(0)).identical(x));
}

TEST(Server, ABoolIsZeroOrOne) {
  auto server = make_server({make_version(identity_graph(DType::kBool, Shape({Dim("N"), Dim(2)})))});
  const Tensor x = Tensor::of<bool>({1, 2}, {true, false});
  EXPECT_TRUE(to_tensor(infer_and_wait(*server, request_of(x)).outputs.at(0)).identical(x));
  InferRequest request = request_of(x);
  const std::byte bytes[2] = {std::byte{1}, std::byte{2}};
  request.inputs[0].bytes = bytes;
  EXPECT_EQ(infer_and_wait(*server, std::move(request)).error, ErrorCode::kInvalidArgument);
}

TEST(Server, AModelOfFixedShapeTakesThatShape) {
  auto server = make_server({make_version(identity_graph(DType::kInt64, Shape({Dim(3), Dim(2)})))});
  const Tensor x = Tensor::of<int64_t>({3, 2}, {1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(to_tensor(infer_and_wait(*server, request_of(x)).outputs.at(0)).identical(x));
  EXPECT_TRUE(infer_and_wait(*server, request_of(x.reshaped({2, 3}))).error);
}

}  // namespace
}  // namespace slipway
