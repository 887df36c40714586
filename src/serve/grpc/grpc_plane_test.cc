#include "serve/grpc/grpc_plane.h"

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "health.grpc.pb.h"
#include "inference.grpc.pb.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {
using grpc::StatusCode;
using inference::GRPCInferenceService;

class GrpcPlaneTest : public ::testing::Test {
 protected:
  void serve(std::unique_ptr<Server> server, GrpcOptions options = {}) {
    server_ = std::move(server);
    options.port = 0;
    plane_ = std::make_unique<GrpcPlane>(*server_, options);
    plane_->start();
    connect();
  }
  void serve_scaling(const ModelConfig& config = {}) {
    serve(make_server({make_version(scaling_graph(2), "m", 1, config)}));
  }
  void connect(grpc_compression_algorithm compression = GRPC_COMPRESS_NONE) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetCompressionAlgorithm(compression);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(address(), grpc::InsecureChannelCredentials(), arguments);
    stub_ = GRPCInferenceService::NewStub(channel_);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(plane_->port()); }

  /// x [rows,4] of `value`, as raw contents.
  static inference::ModelInferRequest scaling_request(float value, int64_t rows = 1) {
    inference::ModelInferRequest request;
    request.set_model_name("m");
    auto* x = request.add_inputs();
    x->set_name("x");
    x->set_datatype("FP32");
    x->add_shape(rows);
    x->add_shape(4);
    const std::vector<float> values(static_cast<size_t>(rows) * 4, value);
    request.add_raw_input_contents(values.data(), values.size() * sizeof(float));
    return request;
  }
  static float first_value(const inference::ModelInferResponse& response) {
    float value = 0;
    std::memcpy(&value, response.raw_output_contents(0).data(), sizeof value);
    return value;
  }
  grpc::Status infer(const inference::ModelInferRequest& request, inference::ModelInferResponse& response) {
    grpc::ClientContext context;
    response.Clear();
    return stub_->ModelInfer(&context, request, &response);
  }
  void expect_refused(const inference::ModelInferRequest& request, StatusCode code, const std::string& part) {
    inference::ModelInferResponse response;
    const grpc::Status status = infer(request, response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_NE(status.error_message().find(part), std::string::npos) << status.error_message();
  }
  template <typename Request, typename Response>
  grpc::Status call(grpc::Status (GRPCInferenceService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response& response, const std::string& token = "") {
    grpc::ClientContext context;
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    return (stub_.get()->*method)(&context, request, &response);
  }
  void expect_answers(float value = 3) {
    inference::ModelInferResponse response;
    const grpc::Status status = infer(scaling_request(value), response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(first_value(response), 2 * value + 1);
  }

  std::unique_ptr<Server> server_;
  std::unique_ptr<GrpcPlane> plane_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<GRPCInferenceService::Stub> stub_;
};

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
  serve_scaling();
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
    EXPECT_EQ(model.execution_count(), 5U);
    EXPECT_EQ(model.inference_stats().success().count(), 5U);
    EXPECT_EQ(model.inference_stats().fail().count(), 1U);
    EXPECT_EQ(model.inference_stats().queue().count(), 5U);
    EXPECT_GE(model.inference_stats().success().ns(), model.inference_stats().compute_infer().ns());
    ASSERT_EQ(model.batch_stats_size(), 1);
    EXPECT_EQ(model.batch_stats(0).compute_infer().count(), 5U);
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
  expect_refused(scaling_request(1), StatusCode::NOT_FOUND, "no such model");
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

TEST_F(GrpcPlaneTest, RefusesWrongRequests) {
  serve_scaling();
  const inference::ModelInferRequest good = scaling_request(1);
  auto bad = good;
  bad.set_model_name("other");
  expect_refused(bad, StatusCode::NOT_FOUND, "other");
  bad = good;
  bad.set_model_version("7");
  expect_refused(bad, StatusCode::NOT_FOUND, "7");
  bad.set_model_version("-1");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "-1");
  bad = good;
  bad.mutable_inputs(0)->set_name("z");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "x");
  bad = good;
  bad.mutable_inputs(0)->set_datatype("FP99");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "FP99");
  bad.mutable_inputs(0)->set_datatype("INT32");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "FP32");
  bad = good;
  bad.mutable_inputs(0)->set_shape(1, 5);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "shape");
  bad.mutable_inputs(0)->set_shape(1, -4);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "shape");
  bad = good;
  bad.mutable_inputs(0)->set_shape(0, int64_t{1} << 62);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "x");
  bad = good;
  bad.mutable_inputs(0)->set_shape(0, 2);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "32 bytes");
  bad = good;
  bad.add_outputs()->set_name("nothing");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "nothing");
  bad = good;
  bad.add_raw_input_contents("more");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "2 raw_input_contents for 1 inputs");
  bad = good;
  bad.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "send one of them");
  bad = good;
  bad.clear_raw_input_contents();
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "has 0 instead of 4");
  for (int i = 0; i < 3; ++i) bad.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "has 3 instead of 4");
  bad.mutable_inputs(0)->mutable_contents()->add_int_contents(1);
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "another type");
  bad = good;
  (*bad.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("r");
  expect_refused(bad, StatusCode::UNIMPLEMENTED, "Shared memory");
  bad = good;
  (*bad.add_outputs()->mutable_parameters())["classification"].set_int64_param(3);
  expect_refused(bad, StatusCode::UNIMPLEMENTED, "Classification");
  bad = good;
  (*bad.mutable_parameters())["sequence_id"].set_int64_param(3);
  expect_refused(bad, StatusCode::UNIMPLEMENTED, "Sequences");
  bad = good;
  (*bad.mutable_parameters())["timeout"].set_string_param("3");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "timeout");
  bad = good;
  for (int i = 0; i < 2000; ++i) bad.add_outputs()->set_name("y");
  expect_refused(bad, StatusCode::INVALID_ARGUMENT, "outputs");
  bad = good;
  bad.set_model_name(std::string(100'000, 'm'));
  expect_refused(bad, StatusCode::NOT_FOUND, "mmm");
  expect_answers();
}

TEST_F(GrpcPlaneTest, RefusesBytesThatAreNoMessage) {
  serve_scaling();
  grpc::GenericStub stub(channel_);
  const auto send = [&](const std::string& method, const std::string& bytes) {
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    return status.error_code();
  };
  const std::string service = "/inference.GRPCInferenceService/";
  for (const std::string& bytes : {std::string("\xff\xff\xff", 3), std::string("\x3a\x7f", 2), std::string("\x08\x01"),
                                   std::string(300, '\x2a'), std::string("\x0f\x0f"), std::string(20, '\x80')})
    EXPECT_EQ(send(service + "ModelInfer", bytes), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(send(service + "ModelReady", "\xff\xff"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(send(service + "ModelReady", std::string(2 << 20, 'a')), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(send(service + "SystemSharedMemoryRegister", ""), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(send("/any.Service/Method", ""), StatusCode::UNIMPLEMENTED);
  expect_answers();
}

TEST_F(GrpcPlaneTest, RefusesMessagesOverTheLimit) {
  serve(make_server({make_version(scaling_graph(2))}), {.max_message_bytes = 4096});
  inference::ModelInferRequest large = scaling_request(1);
  large.set_raw_input_contents(0, std::string(10'000, 'x'));
  expect_refused(large, StatusCode::RESOURCE_EXHAUSTED, "4096");
  connect(GRPC_COMPRESS_GZIP);  // 10 KB that arrive as some hundred bytes
  expect_refused(large, StatusCode::RESOURCE_EXHAUSTED, "4096");
  expect_answers();
}

struct TypeCase {
  DType dtype;
  void (*fill)(inference::InferTensorContents&);
};

TEST_F(GrpcPlaneTest, RawAndTypedContentsAreEqual) {
  using Contents = inference::InferTensorContents;
  const TypeCase cases[] = {
      {DType::kBool,
       [](Contents& c) {
         for (bool v : {true, false, true}) c.add_bool_contents(v);
       }},
      {DType::kInt8,
       [](Contents& c) {
         for (int v : {-128, 0, 127}) c.add_int_contents(v);
       }},
      {DType::kInt16,
       [](Contents& c) {
         for (int v : {-32768, 5, 32767}) c.add_int_contents(v);
       }},
      {DType::kInt32,
       [](Contents& c) {
         for (int v : {INT32_MIN, -1, INT32_MAX}) c.add_int_contents(v);
       }},
      {DType::kInt64,
       [](Contents& c) {
         for (int64_t v : {INT64_MIN, int64_t{-1}, INT64_MAX}) c.add_int64_contents(v);
       }},
      {DType::kUint8,
       [](Contents& c) {
         for (unsigned v : {0U, 7U, 255U}) c.add_uint_contents(v);
       }},
      {DType::kUint16,
       [](Contents& c) {
         for (unsigned v : {0U, 7U, 65535U}) c.add_uint_contents(v);
       }},
      {DType::kUint32,
       [](Contents& c) {
         for (unsigned v : {0U, 7U, UINT32_MAX}) c.add_uint_contents(v);
       }},
      {DType::kUint64,
       [](Contents& c) {
         for (uint64_t v : {uint64_t{0}, uint64_t{7}, UINT64_MAX}) c.add_uint64_contents(v);
       }},
      {DType::kFloat32,
       [](Contents& c) {
         for (float v : {-1.5f, 0.0f, INFINITY}) c.add_fp32_contents(v);
       }},
      {DType::kFloat64,
       [](Contents& c) {
         for (double v : {-1.5, 1e300, 3.0}) c.add_fp64_contents(v);
       }},
      {DType::kString,
       [](Contents& c) {
         for (const char* v : {"", "two", "a\xff"}) c.add_bytes_contents(v);
       }},
  };
  std::vector<std::shared_ptr<ModelVersion>> versions;
  for (const TypeCase& c : cases)
    versions.push_back(make_version(identity_graph(c.dtype, Shape({Dim(3)})), std::string(datatype_name(c.dtype))));
  for (const DType dtype : {DType::kFloat16, DType::kBfloat16})
    versions.push_back(make_version(identity_graph(dtype, Shape({Dim(3)})), std::string(datatype_name(dtype))));
  serve(make_server(versions));
  const auto request_for = [](DType dtype) {
    inference::ModelInferRequest request;
    request.set_model_name(std::string(datatype_name(dtype)));
    auto* x = request.add_inputs();
    x->set_name("x");
    x->set_datatype(std::string(datatype_name(dtype)));
    x->add_shape(3);
    return request;
  };
  for (const TypeCase& c : cases) {
    SCOPED_TRACE(datatype_name(c.dtype));
    inference::ModelInferRequest typed = request_for(c.dtype);
    c.fill(*typed.mutable_inputs(0)->mutable_contents());
    inference::ModelInferResponse answer, again;
    const grpc::Status status = infer(typed, answer);
    ASSERT_TRUE(status.ok()) << status.error_message();
    // What came back, sent raw, comes back the same; and it is what was sent.
    inference::ModelInferRequest raw = request_for(c.dtype);
    raw.add_raw_input_contents(answer.raw_output_contents(0));
    ASSERT_TRUE(infer(raw, again).ok());
    EXPECT_EQ(again.raw_output_contents(0), answer.raw_output_contents(0));
    if (c.dtype == DType::kInt16) {
      EXPECT_EQ(answer.raw_output_contents(0), std::string("\x00\x80\x05\x00\xff\x7f", 6));
    } else if (c.dtype == DType::kString) {
      EXPECT_EQ(answer.raw_output_contents(0), std::string("\0\0\0\0\3\0\0\0two\2\0\0\0a\xff", 17));
    } else if (c.dtype == DType::kFloat64) {
      double value = 0;
      std::memcpy(&value, answer.raw_output_contents(0).data() + 8, sizeof value);
      EXPECT_EQ(value, 1e300);
    } else if (c.dtype == DType::kUint64) {
      EXPECT_EQ(answer.raw_output_contents(0).substr(16), std::string(8, '\xff'));
    }
  }
  for (const DType dtype : {DType::kFloat16, DType::kBfloat16}) {
    inference::ModelInferRequest request = request_for(dtype);
    expect_refused(request, StatusCode::INVALID_ARGUMENT, "raw_input_contents");
    request.add_raw_input_contents("\x01\x02\x03\x04\x05\x06");
    inference::ModelInferResponse answer;
    ASSERT_TRUE(infer(request, answer).ok());
    EXPECT_EQ(answer.raw_output_contents(0), "\x01\x02\x03\x04\x05\x06");
  }
  for (const auto& [dtype, value] : {std::pair{DType::kInt8, 128}, {DType::kInt8, -129}, {DType::kInt16, 1 << 15}}) {
    inference::ModelInferRequest request = request_for(dtype);
    for (int v : {0, value, 0}) request.mutable_inputs(0)->mutable_contents()->add_int_contents(v);
    expect_refused(request, StatusCode::INVALID_ARGUMENT, std::to_string(value));
  }
  for (const auto& [dtype, value] : {std::pair{DType::kUint8, 256U}, {DType::kUint16, 1U << 16}}) {
    inference::ModelInferRequest request = request_for(dtype);
    for (unsigned v : {0U, value, 0U}) request.mutable_inputs(0)->mutable_contents()->add_uint_contents(v);
    expect_refused(request, StatusCode::INVALID_ARGUMENT, std::to_string(value));
  }
}

/// While it lives, everything submitted waits behind it: the observer holds the model's only computing thread.
class Gate {
 public:
  explicit Gate(Server& server) {
    server.observe([this](const Served& served) {
      if (served.request.id != "gate") return;
      std::unique_lock lock(mutex_);
      held_ = true;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
    });
  }
  ~Gate() { open(); }
  void await_held() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false, open_ = false;
};

class GrpcGateTest : public GrpcPlaneTest {
 protected:
  void hold(const ModelConfig& config = {}) {
    auto server = make_server({make_version(scaling_graph(2), "m", 1, config)});
    gate_ = std::make_unique<Gate>(*server);
    serve(std::move(server));
    holder_ = std::thread([this] {
      inference::ModelInferRequest request = scaling_request(1);
      request.set_id("gate");
      inference::ModelInferResponse response;
      infer(request, response);
    });
    gate_->await_held();
  }
  void TearDown() override {
    if (gate_ != nullptr) gate_->open();
    if (holder_.joinable()) holder_.join();
    plane_.reset();
    server_.reset();
  }
  std::unique_ptr<Gate> gate_;
  std::thread holder_;
};

TEST_F(GrpcGateTest, DeadlinesAndCancellation) {
  hold();
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    inference::ModelInferResponse response;
    EXPECT_EQ(stub_->ModelInfer(&context, scaling_request(1), &response).error_code(), StatusCode::DEADLINE_EXCEEDED);
  }
  inference::ModelInferRequest late = scaling_request(1);
  (*late.mutable_parameters())["timeout"].set_int64_param(20'000);
  expect_refused(late, StatusCode::DEADLINE_EXCEEDED, "");
  {
    grpc::ClientContext context;
    std::thread canceller([&] {
      while (server_->in_flight() < 2) std::this_thread::yield();
      context.TryCancel();
    });
    inference::ModelInferResponse response;
    EXPECT_EQ(stub_->ModelInfer(&context, scaling_request(1), &response).error_code(), StatusCode::CANCELLED);
    canceller.join();
  }
  gate_->open();
  expect_answers();
}

TEST_F(GrpcGateTest, AFullQueueIsUnavailable) {
  ModelConfig config;
  config.batching.max_queue = 1;
  hold(config);
  std::thread queued([&] { expect_answers(); });
  while (server_->in_flight() < 2) std::this_thread::yield();
  expect_refused(scaling_request(1), StatusCode::UNAVAILABLE, "queue");
  gate_->open();
  queued.join();
}

TEST_F(GrpcGateTest, StopAnswersWhatIsUnderWay) {
  hold();
  std::thread queued([&] { expect_answers(); });
  while (server_->in_flight() < 2) std::this_thread::yield();
  std::thread stopper([&] { plane_->stop(60'000); });
  gate_->open();
  queued.join();
  stopper.join();
  inference::ModelInferResponse response;
  EXPECT_EQ(infer(scaling_request(1), response).error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(GrpcGateTest, StopCancelsWhatTakesTooLong) {
  hold();
  std::thread stopper([&] { plane_->stop(0); });
  holder_.join();  // its client is told at once
  gate_->open();   // and stop waits for the computation that nobody wants any more
  stopper.join();
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

TEST_F(GrpcPlaneTest, StopsUnderLoadAndStartsAgain) {
  for (int round = 0; round < 3; ++round) {
    serve_scaling();
    std::vector<std::thread> clients;
    std::atomic<int> answered{0};
    std::atomic<bool> over{false};
    for (int c = 0; c < 4; ++c)
      clients.emplace_back([&] {
        while (!over) {
          inference::ModelInferResponse response;
          const grpc::Status status = infer(scaling_request(1), response);
          if (status.ok())
            ++answered;
          else
            EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << status.error_message();
        }
      });
    while (answered < 50) std::this_thread::yield();
    plane_->stop();
    over = true;
    for (std::thread& client : clients) client.join();
  }
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

TEST_F(GrpcPlaneTest, SurvivesStreamsThatBreakOff) {
  serve_scaling();
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const auto stream = stub_->ModelStreamInfer(&context);
    for (int n = 0; n < i; ++n) stream->Write(scaling_request(1));
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
  }
  expect_answers();
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

TEST_F(GrpcPlaneTest, SurvivesGarbageOnThePort) {
  serve_scaling();
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(5000, '\0'),
                                   std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + std::string(100, '\xff')}) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_GE(client, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(plane_->port());
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(client, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    ASSERT_EQ(::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    char buffer[4096];
    while (::recv(client, buffer, sizeof buffer, 0) > 0) continue;  // until the server hangs up
    ::close(client);
  }
  expect_answers();
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
