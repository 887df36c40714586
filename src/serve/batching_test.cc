#include "serve/batching.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "model/evaluate.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

Graph graph_of(const std::string& statements) {
  Graph graph = parse_text("graph \"g\" ir 8 opset {\"\": 17} {\n" + statements + "\n}");
  infer_shapes(graph);
  return graph;
}

/// Each row less the mean of all.
Graph mixing() {
  return graph_of(R"(
    input %x : f32[N,3]
    %m = ReduceMean(%x) {axes = [0], keepdims = 1}
    %y = Sub(%x, %m)
    output %y)");
}

Graph independent() {
  return graph_of(R"(
    input %x : f32[N,3]
    %s = Softmax(%x)
    %y = Sub(%x, %s)
    output %y)");
}

std::map<int64_t, std::shared_ptr<const Plan>> plans_of(const Graph& graph) {
  std::map<int64_t, std::shared_ptr<const Plan>> plans;
  for (const int64_t rows : {1, 4}) plans[rows] = Plan::build(graph, {.batch = rows, .tune = false});
  return plans;
}

Tensor rows_from(float start, int64_t rows) {
  std::vector<float> values;
  for (int64_t i = 0; i < 3 * rows; ++i) values.push_back(start + static_cast<float>(i * i % 7));
  return Tensor::of<float>({rows, 3}, values);
}

TEST(Batching, TakesRowsThatAreProvenIndependentOnly) {
  EXPECT_TRUE(batching_of(independent(), {}).proven);
  EXPECT_NE(batching_of(mixing(), {}).reason.find("ReduceMean"), std::string::npos);
  EXPECT_NE(batching_of(graph_of("input %x : f32[2,3]\n%y = Relu(%x)\noutput %y"), {}).reason.find("not free"),
            std::string::npos);
  const Graph scaled = graph_of("input %x : f32[N,3]\ninput %s : f32[]\n%y = Mul(%x, %s)\noutput %y");
  EXPECT_EQ(batching_of(scaled, {}).inputs, (std::vector<int>{0, -1}));
  EXPECT_FALSE(takes_plans(scaled, {})) << "plans stack along the first axes";
}

TEST(Batching, PlansAreAskedWhetherTheProofHolds) {
  EXPECT_EQ(batching_contradiction(plans_of(independent())), "");
  EXPECT_NE(batching_contradiction(plans_of(mixing())).find("output 'y'"), std::string::npos);
}

TEST(Batching, WhatIsNotProvenIsComputedAsItIsSent) {
  const Graph graph = mixing();
  const auto version = make_version(graph, "m", 1, {.batching = {.max_rows = 4, .delay_us = 20'000}});
  EXPECT_EQ(version->max_rows(), 0);
  EXPECT_EQ(version->inputs()[0].dims, (Dims{-1, 3}));
  EXPECT_FALSE(version->batching().proven);
  const auto server = make_server({version});
  // Sent together: a batcher would take them as one batch.
  std::vector<Tensor> inputs = {rows_from(0, 4), rows_from(5, 1), rows_from(9, 3), rows_from(-3, 1)};
  std::vector<Answer> answers(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    server->infer(server->target("m", "", ""), request_of(inputs[i]), answers[i].done());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const InferResponse& response = answers[i].wait();
    ASSERT_FALSE(response.error) << response.message;
    EXPECT_TRUE(to_tensor(response.outputs[0]).identical(evaluate(graph, std::span(&inputs[i], 1))[0])) << i;
  }
}

TEST(Batching, RequestsOfEqualShapesShareABatch) {
  const Graph graph = graph_of(R"(
    input %x : f32[N,L,2]
    %s = Softmax(%x) {axis = 1}
    %y = Sub(%x, %s)
    %z = ReduceMax(%y) {axes = [1], keepdims = 0}
    output %y
    output %z)");
  const auto version = make_version(graph, "m", 1, {.batching = {.max_rows = 6}});
  EXPECT_TRUE(version->batching().proven) << version->batching().reason;
  EXPECT_TRUE(version->source().plans.empty());
  EXPECT_EQ(version->inputs()[0].dims, (Dims{-1, -1, 2}));
  const auto server = make_server({version});
  std::vector<Tensor> inputs;
  std::vector<Answer> answers(9);
  Gate gate(*server);
  Answer held;
  server->infer(server->target("m", "", ""), request_of(Tensor(DType::kFloat32, {1, 1, 2}), "gate"), held.done());
  gate.await_held();
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto length = static_cast<int64_t>(i % 3 + 2), rows = static_cast<int64_t>(i % 2 + 1);
    std::vector<float> values(static_cast<size_t>(rows * length * 2));
    for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>((k * k + i) % 11);
    inputs.push_back(Tensor::of<float>({rows, length, 2}, values));
    server->infer(server->target("m", "", ""), request_of(inputs.back()), answers[i].done());
  }
  gate.open();
  std::set<int64_t> batches;
  for (size_t i = 0; i < answers.size(); ++i) {
    const InferResponse& response = answers[i].wait();
    ASSERT_FALSE(response.error) << response.message;
    batches.insert(response.batch_rows);
    const std::vector<Tensor> expected = evaluate(graph, std::span(&inputs[i], 1));
    for (size_t o = 0; o < expected.size(); ++o)
      EXPECT_LE(relative_difference(expected[o], to_tensor(response.outputs[o])), 1e-6) << i;
  }
  EXPECT_EQ(batches, (std::set<int64_t>{4, 5})) << "of lengths 2 and 4: rows 1 + 2 + 1, of 3: 2 + 1 + 2";
  EXPECT_GT(version->memory_bytes(), 0u);
  EXPECT_EQ(version->source().program->info().shapes, 6) << "two of the first run, the gate, and one of each length";
}

/// The mean of the masked places, and each place less that.
const char* const kMasked = R"(
    input %x : f32[N,L]
    input %mask : i64[N,L]
    const %one : i64[1] = {1}
    const %tiny : f32[] = {1e-9}
    %m = Cast(%mask) {to = 1}
    %p = Mul(%x, %m)
    %s = ReduceSum(%p, %one) {keepdims = 1}
    %n = ReduceSum(%m, %one) {keepdims = 1}
    %d = Add(%n, %tiny)
    %mean = Div(%s, %d)
    %each = Sub(%x, %mean)
    output %mean
    output %each)";

// A state with its batch along axis 1, and a rate that all rows share: those of one rate go together.
TEST(Batching, RowsMayLieAlongOtherAxes) {
  const Graph graph = graph_of(R"(
    input %x : f32[N,2]
    input %rate : f32[]
    input %state : f32[2,N,2]
    %scaled = Mul(%x, %rate)
    %next = Add(%state, %scaled)
    %twice = Add(%rate, %rate)
    output %scaled, %next, %twice)");
  const auto version = make_version(graph, "m", 1, {.batching = {.max_rows = 8}});
  EXPECT_TRUE(version->batching().proven) << version->batching().reason;
  EXPECT_EQ(version->batching().outputs, (std::vector<int>{0, 1, -1}));
  const auto server = make_server({version});
  Gate gate(*server);
  Answer held;
  const auto request = [](const std::vector<Tensor>& given) {
    return request_of({{"x", given[0]}, {"rate", given[1]}, {"state", given[2]}});
  };
  InferRequest first =
      request({Tensor(DType::kFloat32, {1, 2}), Tensor::scalar(1.0f), Tensor(DType::kFloat32, {2, 1, 2})});
  first.id = "gate";
  server->infer(server->target("m", "", ""), std::move(first), held.done());
  gate.await_held();
  std::vector<std::vector<Tensor>> inputs;
  std::vector<Answer> answers(6);
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto rows = static_cast<int64_t>(i % 2 + 1);
    std::vector<float> x(static_cast<size_t>(rows * 2)), state(static_cast<size_t>(rows * 4));
    for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>((k * k + i) % 11);
    for (size_t k = 0; k < state.size(); ++k) state[k] = static_cast<float>((k * 3 + i) % 7);
    inputs.push_back(
        {Tensor::of<float>({rows, 2}, x), Tensor::scalar(i < 3 ? 2.0f : 3.0f), Tensor::of<float>({2, rows, 2}, state)});
    server->infer(server->target("m", "", ""), request(inputs.back()), answers[i].done());
  }
  gate.open();
  std::vector<int64_t> batches;
  for (size_t i = 0; i < answers.size(); ++i) {
    const InferResponse& response = answers[i].wait();
    ASSERT_FALSE(response.error) << response.message;
    batches.push_back(response.batch_rows);
    const std::vector<Tensor> expected = evaluate(graph, inputs[i]);
    for (size_t o = 0; o < expected.size(); ++o)
      EXPECT_TRUE(to_tensor(response.outputs[o]).identical(expected[o])) << i << " " << o;
  }
  EXPECT_EQ(batches, (std::vector<int64_t>{4, 4, 4, 5, 5, 5})) << "by rate: rows 1 + 2 + 1, then 2 + 1 + 2";
  const InferResponse& uneven = infer_and_wait(
      *server, request({Tensor(DType::kFloat32, {2, 2}), Tensor::scalar(1.0f), Tensor(DType::kFloat32, {2, 3, 2})}),
      "m");
  EXPECT_EQ(uneven.error, ErrorCode::kInvalidArgument);
  EXPECT_NE(uneven.message.find("'state' has 3"), std::string::npos) << uneven.message;
}

TEST(Batching, SequencesOfDifferentLengthsShareABatchWherePaddingIsProven) {
  const Graph graph = graph_of(kMasked);
  const ModelConfig config{.batching = {.max_rows = 16},
                           .padding = {.sizes = {4, 8}, .inputs = {{"x", 7}, {"mask", 0}}, .outputs = {{"each", 1}}}};
  const auto version = make_version(graph, "m", 1, config);
  const auto server = make_server({version});
  std::vector<std::vector<Tensor>> inputs;
  std::vector<Answer> answers(12);
  const auto ask = [&](const std::vector<Tensor>& values, const std::string& id, Answer& answer) {
    InferRequest request = request_of({{"x", values[0]}, {"mask", values[1]}});
    request.id = id;
    server->infer(server->target("m", "", ""), std::move(request), answer.done());
  };
  const auto sequence = [](int64_t rows, int64_t length) {
    std::vector<float> x(static_cast<size_t>(rows * length));
    for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>((k * k + 3) % 13);
    return std::vector<Tensor>{Tensor::of<float>({rows, length}, x),
                               Tensor::of<int64_t>({rows, length}, std::vector<int64_t>(x.size(), 1))};
  };
  Gate gate(*server);
  Answer held;
  ask(sequence(1, 1), "gate", held);
  gate.await_held();
  for (size_t i = 0; i < answers.size(); ++i) {
    inputs.push_back(sequence(static_cast<int64_t>(i % 2 + 1), static_cast<int64_t>(i + 1)));
    ask(inputs.back(), "", answers[i]);
  }
  gate.open();
  for (size_t i = 0; i < answers.size(); ++i) {
    const InferResponse& response = answers[i].wait();
    ASSERT_FALSE(response.error) << response.message;
    EXPECT_EQ(response.batch_rows, i < 8 ? 6 : static_cast<int64_t>(i % 2 + 1)) << "lengths 1 to 4, 5 to 8, and beyond";
    const std::vector<Tensor> expected = evaluate(graph, inputs[i]);
    for (size_t o = 0; o < expected.size(); ++o)
      EXPECT_LE(relative_difference(expected[o], to_tensor(response.outputs[o])), 1e-6) << i << ", output " << o;
  }
}

TEST(Batching, SequencesThatContradictEachOtherAreNotPadded) {
  const ModelConfig config{.padding = {.sizes = {4, 8}, .inputs = {{"x", 0}, {"mask", 0}}, .outputs = {{"each", 1}}}};
  const auto server = make_server({make_version(graph_of(kMasked), "m", 1, config)});
  const auto ask = [&](int64_t length, int64_t mask) {
    return infer_and_wait(
        *server, request_of({{"x", Tensor(DType::kFloat32, {1, length})}, {"mask", Tensor(DType::kInt64, {1, mask})}}));
  };
  for (const auto& [length, mask] : std::vector<std::pair<int64_t, int64_t>>{{5, 7}, {7, 5}, {3, 9}, {1, 5}, {5, 0}})
    EXPECT_EQ(ask(length, mask).error, ErrorCode::kInvalidArgument) << length << " " << mask;
  const InferResponse fits = ask(5, 5);
  ASSERT_FALSE(fits.error) << fits.message;
  EXPECT_EQ(fits.outputs[1].dims, (Dims{1, 5}));
}

TEST(Batching, PaddingThatChangesAnswersIsRefused) {
  const auto refusal = [](const Graph& graph, const Padding& padding) -> std::string {
    try {
      make_version(graph, "m", 1, {.padding = padding});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const Padding padding{.sizes = {4, 8}, .inputs = {{"x", 0}, {"mask", 0}}, .outputs = {{"each", 1}}};
  EXPECT_EQ(refusal(graph_of(kMasked), padding), "");
  Padding whole = padding;
  whole.outputs.clear();
  EXPECT_NE(refusal(graph_of(kMasked), whole).find("'each'"), std::string::npos) << "it is not cut back";
  Padding odd = padding;
  odd.inputs["mask"] = 1;
  EXPECT_NE(refusal(graph_of(kMasked), odd).find("'mean'"), std::string::npos);
  odd.inputs["ids"] = 0;
  EXPECT_NE(refusal(graph_of(kMasked), odd).find("'ids'"), std::string::npos);
  const Padding one{.sizes = {4}, .inputs = {{"x", 0}}};
  EXPECT_NE(refusal(graph_of("input %x : f32[N,L]\n%y = ReduceMean(%x) {axes = [1], keepdims = 0}\noutput %y"), one)
                .find("Padding changes"),
            std::string::npos);
  EXPECT_NE(refusal(scaling_graph(2), {.sizes = {4}, .inputs = {{"x", 0}}}).find("leave it out"), std::string::npos);
}

TEST(Batching, AModelWithoutABatchIsServedAtAnyShapes) {
  const Graph graph = graph_of(R"(
    input %nodes : f32[V,3]
    input %edges : i64[2,E]
    const %zero : i64[] = {0}
    %from = Gather(%edges, %zero) {axis = 0}
    %y = Gather(%nodes, %from) {axis = 0}
    output %y)");
  const auto version = make_version(graph);
  EXPECT_EQ(version->max_rows(), 0);
  const auto server = make_server({version});
  for (const int64_t vertices : {3, 5, 1})
    for (const int64_t edges : {0, 1, 7}) {
      std::vector<int64_t> list(static_cast<size_t>(2 * edges));
      for (size_t k = 0; k < list.size(); ++k) list[k] = static_cast<int64_t>(k * 5) % vertices;
      const std::vector<Tensor> inputs = {rows_from(1, vertices), Tensor::of<int64_t>({2, edges}, list)};
      const InferResponse response = infer_and_wait(*server, request_of({{"nodes", inputs[0]}, {"edges", inputs[1]}}));
      ASSERT_FALSE(response.error) << response.message;
      EXPECT_TRUE(to_tensor(response.outputs[0]).identical(evaluate(graph, inputs)[0])) << vertices << " " << edges;
    }
}

TEST(Batching, ValuesThatGrowBeyondBoundsAreTheCallersFault) {
  const Graph graph = graph_of(R"(
    input %x : f32[1]
    input %shape : i64[K]
    %y = Expand(%x, %shape)
    output %y)");
  const auto server = make_server({make_version(graph, "m", 1, {.max_value_mib = 4})});
  const auto ask = [&](const std::vector<int64_t>& shape) {
    const Tensor wanted = Tensor::of<int64_t>({static_cast<int64_t>(shape.size())}, shape);
    return infer_and_wait(*server, request_of({{"x", Tensor::of<float>({1}, {3})}, {"shape", wanted}}));
  };
  for (int i = 0; i < 3; ++i) {
    const InferResponse refused = ask({3000, 3000});
    EXPECT_EQ(refused.error, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.message.find("more memory"), std::string::npos) << refused.message;
    const InferResponse answered = ask({3, 2});
    ASSERT_FALSE(answered.error) << answered.message;
    EXPECT_EQ(answered.outputs[0].dims, (Dims{3, 2}));
  }
}

TEST(Batching, ALoopThatARequestMakesLongEndsWithItsDeadline) {
  const Graph graph = graph_of(R"(
    input %trips : i64[]
    input %x : f32[2]
    %y = Loop(%trips, _, %x) {body = graph "body" {
      input %i : i64[]
      input %c : bool[]
      input %s : f32[2]
      %a = Add(%s, %s)
      output %c, %a
    }}
    output %y)");
  const auto server = make_server({make_version(graph)});
  const auto ask = [&](int64_t trips, int64_t deadline_ns) {
    InferRequest request = request_of({{"trips", Tensor::scalar(trips)}, {"x", Tensor::of<float>({2}, {1, 2})}});
    request.deadline_ns = deadline_ns;
    return infer_and_wait(*server, std::move(request));
  };
  EXPECT_EQ(ask(int64_t{1} << 40, now_ns() + 200'000'000).error, ErrorCode::kDeadline);
  const int64_t start = now_ns();
  const InferResponse answered = ask(3, 0);
  ASSERT_FALSE(answered.error) << answered.message;
  EXPECT_EQ(to_floats(to_tensor(answered.outputs[0])), (std::vector<float>{8, 16}));
  EXPECT_LT(now_ns() - start, 20'000'000'000) << "the long one holds the only thread";
}

TEST(Batching, OutputsMayFollowTheRowsInTheirOwnWay) {
  const Graph graph = graph_of(R"(
    input %x : f32[N,3]
    const %pads : i64[4] = {1, 0, 2, 0}
    %t = Transpose(%x)
    %y = Pad(%x, %pads)
    %z = MatMul(%x, %t)
    output %y
    output %z)");
  const auto server = make_server({make_version(graph, "m", 1, {.batching = {.max_rows = 4}})});
  for (const int64_t rows : {4, 1, 4}) {
    const Tensor x = rows_from(static_cast<float>(rows), rows);
    const InferResponse response = infer_and_wait(*server, request_of(x));
    ASSERT_FALSE(response.error) << response.message;
    const std::vector<Tensor> expected = evaluate(graph, std::span(&x, 1));
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_TRUE(to_tensor(response.outputs[i]).identical(expected[i])) << rows << " rows, output " << i;
  }
}

}  // namespace
}  // namespace slipway
