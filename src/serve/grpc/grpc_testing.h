#pragma once
// What the tests of the gRPC plane share: a server on loopback, a stub.
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "inference.grpc.pb.h"
#include "serve/grpc/grpc_plane.h"
#include "serve/serve_testing.h"

namespace slipway {

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
    stub_ = inference::GRPCInferenceService::NewStub(channel_);
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
  void expect_refused(const inference::ModelInferRequest& request, grpc::StatusCode code, const std::string& part) {
    inference::ModelInferResponse response;
    const grpc::Status status = infer(request, response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_NE(status.error_message().find(part), std::string::npos) << status.error_message();
  }
  template <typename Request, typename Response>
  grpc::Status call(grpc::Status (inference::GRPCInferenceService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                                  Response*),
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
  std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
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

}  // namespace slipway
