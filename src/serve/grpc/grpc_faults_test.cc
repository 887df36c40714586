// What clients do wrong, and stopping.
#include <arpa/inet.h>
#include <grpcpp/generic/generic_stub.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/grpc/grpc_testing.h"

namespace slipway {
namespace {
using grpc::StatusCode;

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

TEST_F(GrpcPlaneTest, StopFinishesWhatHasBegunToArrive) {
  serve_scaling();
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto call = stub.PrepareCall(&context, "/inference.GRPCInferenceService/ModelInfer", &queue);
  const auto next = [&] {
    void* tag;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  call->StartCall(nullptr);
  EXPECT_TRUE(next());
  expect_answers();  // on the same connection: the header of the first call is there by then
  std::thread stopper([&] { plane_->stop(60'000); });
  inference::ModelInferResponse refused;
  while (infer(scaling_request(1), refused).ok()) std::this_thread::yield();
  std::string text;
  scaling_request(3).SerializeToString(&text);
  const grpc::Slice slice(text);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  EXPECT_TRUE(next());
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  EXPECT_TRUE(next()) << "the answer";
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  EXPECT_TRUE(status.ok()) << status.error_message();
  stopper.join();
}

TEST_F(GrpcPlaneTest, AFarDeadlineIsNone) {
  serve_scaling();
  for (const int64_t hours : {int64_t{1}, int64_t{24 * 365}, int64_t{24 * 365 * 100}, int64_t{24 * 365 * 200}}) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(hours));
    inference::ModelInferResponse response;
    const grpc::Status status = stub_->ModelInfer(&context, scaling_request(3), &response);
    EXPECT_TRUE(status.ok()) << hours << status.error_message();
  }
  inference::ModelInferRequest patient = scaling_request(1);
  (*patient.mutable_parameters())["timeout"].set_int64_param(std::numeric_limits<int64_t>::max());
  inference::ModelInferResponse response;
  EXPECT_TRUE(infer(patient, response).ok());
  EXPECT_EQ(snapshot(server_->versions("m")[0]->metrics().variants[0]).requests, 5);
}

TEST_F(GrpcGateTest, StopCancelsWhatTakesTooLong) {
  hold();
  std::thread stopper([&] { plane_->stop(0); });
  holder_.join();  // its client is told at once
  gate_->open();   // and stop waits for the computation that nobody wants any more
  stopper.join();
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
          else  // CANCELLED: what reached the server while it closed its connections ends so
            EXPECT_TRUE(status.error_code() == StatusCode::UNAVAILABLE || status.error_code() == StatusCode::CANCELLED)
                << status.error_message();
        }
      });
    while (answered < 50) std::this_thread::yield();
    plane_->stop();
    over = true;
    for (std::thread& client : clients) client.join();
    const VariantSnapshot counted = snapshot(server_->versions("m")[0]->metrics().variants[0]);
    EXPECT_EQ(counted.requests, answered) << "an answer was computed and not delivered";
  }
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

}  // namespace
}  // namespace slipway
