// ModelStreamInfer: requests are submitted as they come, up to kMaxAhead of them unanswered; the responses leave in the
// requests' order. Reading stops while that many wait, so a client that does not read its responses is held back.
#include "serve/grpc/calls.h"

namespace slipway {
namespace {
constexpr size_t kMaxAhead = 64;

class InferStream {
 public:
  InferStream(CallContext& context, std::unique_ptr<GenericCall> call)
      : counted_(context), context_(context), call_(std::move(call)) {}
  void start() {
    std::unique_lock lock(mutex_);
    advance(lock);
  }

 private:
  struct Event final : CallEvent {
    Event(InferStream& s, void (InferStream::*t)(bool)) : stream(s), then(t) {}
    void happen(bool ok) override { (stream.*then)(ok); }
    InferStream& stream;
    void (InferStream::*then)(bool);
  };
  struct Slot {
    bool ready = false;
    Variant variant = Variant::kStable;
    grpc::ByteBuffer response;
  };

  void on_read(bool ok) {
    std::unique_lock lock(mutex_);
    if (!ok) {
      reading_ = false;
      ended_ = true;
      return advance(lock);
    }
    Slot* slot = &slots_.emplace_back();
    lock.unlock();
    start_infer(context_, call_->context, request_, slot->variant, [this, slot](InferResponse&& response) {
      grpc::ByteBuffer message;
      bool encoded = true;
      try {
        message = to_byte_buffer(encode_infer_message(response, slot->variant, true), response.owner);
      } catch (const std::bad_alloc&) {
        encoded = false;
      }
      std::unique_lock answered(mutex_);
      slot->response = std::move(message);
      slot->ready = true;
      no_memory_ = no_memory_ || !encoded;
      advance(answered);
    });
    lock.lock();
    reading_ = false;
    advance(lock);
  }
  void on_write(bool ok) {
    std::unique_lock lock(mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
    slots_.pop_front();
    advance(lock);
  }
  void on_finish(bool) { delete this; }

  /// Does what can be done next; unlocks at last, and the stream may be gone then.
  void advance(std::unique_lock<std::mutex>& lock) {
    if (no_memory_) broken_ = ended_ = true;  // of an answer, so that the stream can't go on
    while (broken_ && !writing_ && !slots_.empty() && slots_.front().ready) slots_.pop_front();
    if (!writing_ && !slots_.empty() && slots_.front().ready) {
      writing_ = true;
      call_->stream.Write(slots_.front().response, static_cast<CallEvent*>(&written_));
    }
    if (!reading_ && !ended_ && slots_.size() < kMaxAhead) {
      reading_ = true;
      call_->stream.Read(&request_, static_cast<CallEvent*>(&read_));
    }
    const bool finish = ended_ && slots_.empty() && !writing_ && !reading_ && !finishing_;
    if (finish) finishing_ = true;
    lock.unlock();
    if (finish)
      call_->stream.Finish(
          no_memory_ ? grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no memory") : grpc::Status::OK,
          static_cast<CallEvent*>(&finished_));
  }

  Counted counted_;
  CallContext& context_;
  std::unique_ptr<GenericCall> call_;
  Event read_{*this, &InferStream::on_read}, written_{*this, &InferStream::on_write},
      finished_{*this, &InferStream::on_finish};
  std::mutex mutex_;
  grpc::ByteBuffer request_;
  std::deque<Slot> slots_;  ///< in the requests' order
  bool reading_ = false, writing_ = false, ended_ = false, broken_ = false, finishing_ = false, no_memory_ = false;
};
}  // namespace

void answer_stream(CallContext& context, std::unique_ptr<GenericCall> call) {
  (new InferStream(context, std::move(call)))->start();
}

}  // namespace slipway
