#pragma once
// How the calls of the gRPC plane are answered: each is an object that deletes itself, driven by the events of the
// completion queue that it waits on. Inferences are submitted by the polling thread and finished by the computing one.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "serve/grpc/grpc_plane.h"
#include "serve/grpc/infer_message.h"
#include "serve/server.h"

namespace slipway {

/// What a completion queue's tags point to.
class CallEvent {
 public:
  virtual void happen(bool ok) = 0;

 protected:
  ~CallEvent() = default;
};

/// ModelInfer alone, its messages as bytes; every other method goes through the generic service. A call is there once
/// its header is, before its message: what has begun to arrive when the server stops is then finished.
class InferService final : public grpc::Service {
 public:
  InferService();
  void await(grpc::ServerContext* context, grpc::GenericServerAsyncReaderWriter* stream,
             grpc::ServerCompletionQueue* queue, CallEvent* event);
};

/// A completion queue and the calls that it is still to be made ready for; touched by its polling thread alone.
struct Lane {
  grpc::ServerCompletionQueue* queue;
  int infers, others;
};

/// One thread for what takes long (loading), so that no polling thread waits for it.
class SlowLane {
 public:
  void start();
  void stop();  ///< after the last task
  void push(std::function<void()> task);

 private:
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

struct CallContext {
  Server& server;
  GrpcOptions options;
  InferService infer_service;
  grpc::AsyncGenericService other_methods;
  SlowLane slow_lane;
  std::atomic<int64_t> calls{0};  ///< objects alive
  std::atomic<bool> stopping{false};
};

/// Counts a call object among those alive.
class Counted {
 public:
  explicit Counted(CallContext& context) : calls_(context.calls) { calls_.fetch_add(1); }
  ~Counted() {
    if (calls_.fetch_sub(1) == 1) calls_.notify_all();
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<int64_t>& calls_;
};

/// Waits for one ModelInfer; when it comes, the lane is to wait for one more.
void await_infer(CallContext& context, Lane& lane);
/// The same for a call of any other method.
void await_other(CallContext& context, Lane& lane);

grpc::Status to_status(ErrorCode code, const std::string& message);

/// A received message in one piece and what keeps it; takes it out of `buffer`.
struct ReceivedMessage {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};
ReceivedMessage take_message(grpc::ByteBuffer& buffer);
/// Large pieces are sent from where they lie, kept alive by `owner`.
grpc::ByteBuffer to_byte_buffer(const std::vector<MessagePiece>& pieces, const std::shared_ptr<const void>& owner);

/// From a ModelInferRequest to Server::infer; errors go to `done` too. `variant` is set before `done` is called.
void start_infer(CallContext& context, const grpc::ServerContext& call, grpc::ByteBuffer& message, Variant& variant,
                 InferDone done);

/// Answers ModelStreamInfer.
struct GenericCall {
  grpc::GenericServerContext context;
  grpc::GenericServerAsyncReaderWriter stream{&context};
};
void answer_stream(CallContext& context, std::unique_ptr<GenericCall> call);

}  // namespace slipway
