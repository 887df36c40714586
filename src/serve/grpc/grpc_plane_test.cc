#include "health.grpc.pb.h"
#include "serve/grpc/grpc_testing.h"

namespace slipway {
namespace {
using grpc::StatusCode;
using inference::GRPCInferenceService;

TEST_F(GrpcPlaneTest, InfersAndEchoes) {
  serve_scaling();
  inference::ModelInferRequest request = scaling_request(3);
  request.set_id("seven");
  inference::ModelInferResponse response;
  ASSERT_TRUE(infer(request, response).ok());
  EXPECT_EQ(response.model_name(), "m");
  EXPECT_EQ(response.model_version(), "1");
  EXPECT_EQ(response.id(), "seven");
  EXPECT_EQ(response.parameters().at("slipway_variant").string_param(), "stable");
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).name(), "y");
  EXPECT_EQ(response.outputs(0).datatype(), "FP32");
  ASSERT_EQ(response.outputs(0).shape_size(), 2);
  EXPECT_EQ(response.outputs(0).shape(1), 4);
  ASSERT_EQ(response.raw_output_contents(0).size(), 16U);
  EXPECT_EQ(first_value(response), 7);

  request.set_model_version("1");
  request.add_outputs()->set_name("y");
  ASSERT_TRUE(infer(request, response).ok());
  EXPECT_EQ(response.parameters().at("slipway_variant").string_param(), "pinned");
}

TEST_F(GrpcPlaneTest, CarriesLargeTensorsWhole) {
  serve(make_server({make_version(identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(1 << 18)})))}));
  inference::ModelInferRequest request = scaling_request(0);
  request.mutable_inputs(0)->set_shape(0, 3);
  request.mutable_inputs(0)->set_shape(1, 1 << 18);
  std::string bytes(3 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 131 >> 3);
  request.set_raw_input_contents(0, bytes);
  for (const auto compression : {GRPC_COMPRESS_NONE, GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    connect(compression);
    inference::ModelInferResponse response;
    const grpc::Status status = infer(request, response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(response.raw_output_contents(0) == bytes);
  }
}

TEST_F(GrpcPlaneTest, KnowsHealthAndReadiness) {
  serve_scaling();
  inference::ServerLiveResponse live;
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::ServerLive, inference::ServerLiveRequest(), live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::ServerReady, inference::ServerReadyRequest(), ready).ok());
  EXPECT_TRUE(ready.ready());
  inference::ModelReadyRequest request;
  inference::ModelReadyResponse response;
  for (const auto& [name, version, expected] :
       {std::tuple{"m", "", true}, {"m", "1", true}, {"m", "2", false}, {"other", "", false}}) {
    request.set_name(name);
    request.set_version(version);
    ASSERT_TRUE(call(&GRPCInferenceService::Stub::ModelReady, request, response).ok());
    EXPECT_EQ(response.ready(), expected) << name << version;
  }
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::health::v1::HealthCheckRequest question;
  grpc::health::v1::HealthCheckResponse answer;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(health->Check(&context, question, &answer).ok());
    EXPECT_EQ(answer.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  }
  question.set_service("nobody");
  grpc::ClientContext context;
  EXPECT_EQ(health->Check(&context, question, &answer).error_code(), StatusCode::NOT_FOUND);

  server_->route("m", {});
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::ServerReady, inference::ServerReadyRequest(), ready).ok());
  EXPECT_FALSE(ready.ready());
}

TEST_F(GrpcPlaneTest, DescribesServerAndModel) {
  ModelConfig config;
  config.batching = {.max_rows = 8, .delay_us = 250};
  serve_scaling(config);
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::ServerMetadata, inference::ServerMetadataRequest(), server).ok());
  EXPECT_EQ(server.name(), "slipway");
  EXPECT_EQ(server.version(), SLIPWAY_VERSION);
  EXPECT_GT(server.extensions_size(), 3);

  inference::ModelMetadataRequest request;
  request.set_name("m");
  inference::ModelMetadataResponse model;
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::ModelMetadata, request, model).ok());
  ASSERT_EQ(model.inputs_size(), 1);
  EXPECT_EQ(model.inputs(0).name(), "x");
  EXPECT_EQ(model.inputs(0).datatype(), "FP32");
  EXPECT_EQ(model.inputs(0).shape(0), -1);
  EXPECT_EQ(model.inputs(0).shape(1), 4);
  EXPECT_EQ(model.versions(0), "1");
  EXPECT_EQ(model.outputs(0).name(), "y");

  inference::ModelConfigRequest ask;
  ask.set_name("m");
  inference::ModelConfigResponse answer;
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::ModelConfig, ask, answer).ok());
  EXPECT_EQ(answer.config().max_batch_size(), 8);
  EXPECT_EQ(answer.config().dynamic_batching().max_queue_delay_microseconds(), 250U);
  EXPECT_EQ(answer.config().input(0).data_type(), inference::TYPE_FP32);
  ASSERT_EQ(answer.config().input(0).dims_size(), 1);
  EXPECT_EQ(answer.config().input(0).dims(0), 4);
  EXPECT_EQ(answer.config().instance_group(0).kind(), inference::ModelInstanceGroup::KIND_CPU);

  ask.set_name("other");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::ModelConfig, ask, answer).error_code(), StatusCode::NOT_FOUND);
  ask.set_name("");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::ModelConfig, ask, answer).error_code(), StatusCode::INVALID_ARGUMENT);
  ask.set_name("m");
  ask.set_version("9");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::ModelConfig, ask, answer).error_code(), StatusCode::NOT_FOUND);
  ask.set_version("x");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::ModelConfig, ask, answer).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcPlaneTest, CountsWhatItAnswered) {
  ModelConfig config;
  config.batching.max_rows = 1;  // so that two rows are two executions, whatever pays
  serve_scaling(config);
  inference::ModelInferResponse response;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(infer(scaling_request(1, 2), response).ok());
  inference::ModelInferRequest wrong = scaling_request(1);
  wrong.mutable_inputs(0)->set_name("z");
  EXPECT_FALSE(infer(wrong, response).ok());
  for (const bool all : {false, true}) {
    inference::ModelStatisticsRequest request;
    if (!all) request.set_name("m");
    inference::ModelStatisticsResponse statistics;
    ASSERT_TRUE(call(&GRPCInferenceService::Stub::ModelStatistics, request, statistics).ok());
    ASSERT_EQ(statistics.model_stats_size(), 1);
    const inference::ModelStatistics& model = statistics.model_stats(0);
    EXPECT_EQ(model.inference_count(), 10U);
    EXPECT_EQ(model.execution_count(), 10U);
    EXPECT_EQ(model.inference_stats().success().count(), 5U);
    EXPECT_EQ(model.inference_stats().fail().count(), 1U);
    EXPECT_EQ(model.inference_stats().queue().count(), 5U);
    EXPECT_GE(model.inference_stats().success().ns(), model.inference_stats().compute_infer().ns());
    ASSERT_EQ(model.batch_stats_size(), 1);
    EXPECT_EQ(model.batch_stats(0).batch_size(), 1U);
    EXPECT_EQ(model.batch_stats(0).compute_infer().count(), 10U);
    EXPECT_GT(model.memory_usage(0).byte_size(), 0U);
  }
  inference::ModelStatisticsRequest request;
  inference::ModelStatisticsResponse statistics;
  request.set_name("other");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::ModelStatistics, request, statistics).error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(GrpcPlaneTest, LoadsOnlyForThoseWhoMay) {
  const auto versions = {make_version(scaling_graph(2))};
  serve(make_server(versions), {.admin_token = "secret"});
  inference::RepositoryIndexResponse index;
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::RepositoryIndex, inference::RepositoryIndexRequest(), index).ok());
  ASSERT_EQ(index.models_size(), 1);
  EXPECT_EQ(index.models(0).state(), "READY");

  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("absent");
  const auto try_load = [&](const std::string& token) {
    return call(&GRPCInferenceService::Stub::RepositoryModelLoad, load, loaded, token).error_code();
  };
  for (const char* token : {"", "wrong", "secre", "secret2"}) EXPECT_EQ(try_load(token), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(try_load("secret"), StatusCode::NOT_FOUND);
  (*load.mutable_parameters())["config"].set_string_param("{}");
  EXPECT_EQ(try_load("secret"), StatusCode::INVALID_ARGUMENT);
  load.clear_parameters();
  (*load.mutable_parameters())["file:1/model.onnx"].set_bytes_param("x");
  EXPECT_EQ(try_load("secret"), StatusCode::INVALID_ARGUMENT);

  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  unload.set_model_name("m");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::RepositoryModelUnload, unload, unloaded).error_code(),
            StatusCode::PERMISSION_DENIED);
  expect_answers();
  EXPECT_TRUE(call(&GRPCInferenceService::Stub::RepositoryModelUnload, unload, unloaded, "secret").ok());
  expect_refused(scaling_request(1), StatusCode::NOT_FOUND, "not loaded: 'm': unloaded");
  inference::RepositoryIndexRequest only_ready;
  only_ready.set_ready(true);
  ASSERT_TRUE(call(&GRPCInferenceService::Stub::RepositoryIndex, only_ready, index).ok());
  EXPECT_EQ(index.models_size(), 0);
}

TEST_F(GrpcPlaneTest, ExplicitControlNeedsNoToken) {
  serve(std::make_unique<Server>(ServerOptions{.explicit_control = true}));
  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  unload.set_model_name("absent");
  EXPECT_EQ(call(&GRPCInferenceService::Stub::RepositoryModelUnload, unload, unloaded).error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(GrpcPlaneTest, AnswersManyAtOnce) {
  serve_scaling();
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int c = 0; c < 100; ++c)
    clients.emplace_back([&, c] {
      for (int i = 0; i < 5; ++i) {
        inference::ModelInferResponse response;
        const auto value = static_cast<float>(c * 5 + i);
        if (infer(scaling_request(value), response).ok() && first_value(response) == 2 * value + 1) ++good;
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 500);
}

TEST_F(GrpcPlaneTest, StreamsInOrder) {
  serve_scaling();
  grpc::ClientContext context;
  const auto stream = stub_->ModelStreamInfer(&context);
  constexpr int kRequests = 300;
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) {
      inference::ModelInferRequest request = scaling_request(static_cast<float>(i));
      request.set_id(std::to_string(i));
      if (i == 7) request.set_model_name("other");
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  inference::ModelStreamInferResponse response;
  int count = 0;
  for (; stream->Read(&response); ++count) {
    EXPECT_EQ(response.infer_response().id(), std::to_string(count));
    if (count == 7) {
      EXPECT_NE(response.error_message().find("other"), std::string::npos);
    } else {
      EXPECT_EQ(response.error_message(), "");
      EXPECT_EQ(first_value(response.infer_response()), static_cast<float>(2 * count + 1));
    }
  }
  writer.join();
  EXPECT_EQ(count, kRequests);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(GrpcPlaneTest, TheStickyKeyChoosesTheVariant) {
  ModelConfig config;
  config.sticky_header = "X-User";
  config.sticky_parameter = "user";
  auto server = make_server({make_version(scaling_graph(2), "m", 1, config)});
  server->add(make_version(scaling_graph(2), "m", 2, config));
  server->route("m", {.stable = 1, .candidate = 2, .candidate_share = 5000});
  serve(std::move(server));
  int candidates = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string user = "user" + std::to_string(i);
    const std::string expected = sticky_bucket("m", user) < 5000 ? "candidate" : "stable";
    candidates += expected == "candidate";
    for (int how = 0; how < 3; ++how) {
      inference::ModelInferRequest request = scaling_request(1);
      request.set_id(how == 2 ? user : "same");
      grpc::ClientContext context;
      if (how == 0) context.AddMetadata("x-user", user);
      if (how == 1) (*request.mutable_parameters())["user"].set_string_param(user);
      inference::ModelInferResponse response;
      ASSERT_TRUE(stub_->ModelInfer(&context, request, &response).ok());
      EXPECT_EQ(response.parameters().at("slipway_variant").string_param(), expected) << user << how;
    }
  }
  EXPECT_GT(candidates, 0);
  EXPECT_LT(candidates, 40);
}

TEST_F(GrpcPlaneTest, ATakenPortIsAnError) {
  serve_scaling();
  try {
    GrpcPlane second(*server_, {.port = plane_->port()});
    FAIL() << "bound twice";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_NE(std::string(error.what()).find(address()), std::string::npos);
  }
  expect_answers();
}

TEST_F(GrpcPlaneTest, APlaneNeedNotBeStarted) {
  const auto server = make_server({});
  const GrpcPlane plane(*server, {.port = 0});
  EXPECT_NE(plane.port(), 0);
}

}  // namespace
}  // namespace slipway
