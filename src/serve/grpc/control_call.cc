// Calls of the generic service: the method is known when the call comes, its message is read next. Streams are handed
// on; what loads a model leaves the polling thread.
#include <new>

#include "base/log.h"
#include "serve/grpc/calls.h"
#include "serve/grpc/control.h"
#include "serve/http/http_message.h"

namespace slipway {
namespace {

bool may_load(const CallContext& context, const grpc::ServerContext& call) {
  if (context.server.options().explicit_control) return true;
  if (context.options.admin_token.empty()) return false;
  const auto given = call.client_metadata().find("authorization");
  return given != call.client_metadata().end() &&
         same_secret({given->second.data(), given->second.size()}, "Bearer " + context.options.admin_token);
}

class ControlCall final : public CallEvent {
 public:
  ControlCall(CallContext& context, std::unique_ptr<GenericCall> call)
      : counted_(context), context_(context), call_(std::move(call)) {}
  void start() {
    method_ = find_control_method(call_->context.method());
    if (method_ == nullptr)
      return finish(
          {grpc::StatusCode::UNIMPLEMENTED, "The server has no such method; it has those of its inference.proto: '" +
                                                call_->context.method().substr(0, 128) + "'"});
    if (method_->kind == ControlMethod::Kind::kLoading && !may_load(context_, call_->context))
      return finish({grpc::StatusCode::PERMISSION_DENIED,
                     "Loading and unloading need the admin token in the metadata 'authorization: Bearer TOKEN', or a "
                     "server started with --model-control explicit"});
    call_->stream.Read(&message_, static_cast<CallEvent*>(this));
  }
  void happen(bool ok) override {
    if (finishing_) return delete this;
    if (!ok) return finish({grpc::StatusCode::INVALID_ARGUMENT, "The call has no message that can be read; send one"});
    if (method_->kind == ControlMethod::Kind::kLoading)
      context_.slow_lane.push([this] { answer(); });
    else
      answer();
  }

 private:
  void answer() {
    std::string response;
    try {
      const ReceivedMessage received = take_message(message_);
      response = method_->answer(context_.server, received.bytes);
    } catch (const Error& error) {
      return finish(to_status(error.code(), error.what()));
    } catch (const std::bad_alloc&) {
      return finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "no memory"});
    } catch (const std::exception& error) {
      return finish(to_status(ErrorCode::kInternal, error.what()));
    }
    finishing_ = true;
    const grpc::Slice slice(response);
    call_->stream.WriteAndFinish(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), grpc::Status::OK,
                                 static_cast<CallEvent*>(this));
  }
  void finish(const grpc::Status& status) {
    finishing_ = true;
    call_->stream.Finish(status, static_cast<CallEvent*>(this));
  }

  Counted counted_;
  CallContext& context_;
  std::unique_ptr<GenericCall> call_;
  const ControlMethod* method_ = nullptr;
  grpc::ByteBuffer message_;
  bool finishing_ = false;
};

class AwaitedCall final : public CallEvent {
 public:
  AwaitedCall(CallContext& context, Lane& lane)
      : counted_(context), context_(context), lane_(lane), call_(std::make_unique<GenericCall>()) {
    context_.other_methods.RequestCall(&call_->context, &call_->stream, lane_.queue, lane_.queue,
                                       static_cast<CallEvent*>(this));
  }
  void happen(bool ok) override {
    if (ok) {
      ++lane_.others;
      if (call_->context.method() == "/inference.GRPCInferenceService/ModelStreamInfer")
        answer_stream(context_, std::move(call_));
      else
        (new ControlCall(context_, std::move(call_)))->start();
    }
    delete this;
  }

 private:
  Counted counted_;
  CallContext& context_;
  Lane& lane_;
  std::unique_ptr<GenericCall> call_;
};
}  // namespace

void await_other(CallContext& context, Lane& lane) { new AwaitedCall(context, lane); }

void SlowLane::start() {
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      try {
        task();
      } catch (const std::bad_alloc&) {
        log_error("There was no memory for a gRPC call; it is given up");
      }
      lock.lock();
    }
  });
}

void SlowLane::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void SlowLane::push(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  work_.notify_one();
}

}  // namespace slipway
