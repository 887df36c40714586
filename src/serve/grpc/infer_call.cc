// ModelInfer: three events a call. The first brings the call, the second its message, which the polling thread decodes
// in place and submits; the computing thread sends response and status as one batch; the third event ends the call. A
// client that went away meanwhile makes that batch fail, and nothing else. On the wire a unary method is a stream of
// one message each way; as such it is registered, for gRPC would read a unary call's message before it tells of the
// call.
#include <grpc/support/time.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/impl/rpc_service_method.h>

#include <algorithm>
#include <new>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/grpc/calls.h"

// gRPC has no public way to learn that a request was compressed; its own interoperability tests use this one.
grpc_compression_algorithm grpc_call_test_only_get_compression_algorithm(grpc_call* call);

namespace slipway {
namespace {
constexpr size_t kSendInPlaceBytes = 4096;  ///< smaller tensors are copied: cheaper than a reference to them
constexpr size_t kMaxMessageChars = 1500;   ///< of an error: clients take 8 KB of metadata, a character up to 3 bytes

/// Monotonic; 0 for a deadline that is none, or so far away that it is as good as none.
int64_t deadline_ns(const grpc::ServerContext& call, int64_t now) {
  constexpr int64_t kYearSeconds = 366 * 86'400;
  const gpr_timespec deadline = call.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return 0;
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  if (left.tv_sec > kYearSeconds) return 0;
  return left.tv_sec < 0 ? 1 : now + left.tv_sec * 1'000'000'000 + left.tv_nsec;
}

std::string metadata(const grpc::ServerContext& call, const std::string& key) {
  const auto& all = call.client_metadata();
  const auto found = all.find(key);
  return found == all.end() ? std::string() : std::string(found->second.data(), found->second.size());
}

/// What the canary's assignment hashes: the header or parameter that the model's configuration names, else the id.
std::string sticky_key(const Server& server, const grpc::ServerContext& call, const InferMessage& message) {
  const auto versions = server.versions(message.model);
  if (versions.empty()) return message.request.id;
  const ModelConfig& config = versions.back()->config();
  std::string key;
  if (!config.sticky_header.empty()) {
    std::string header = config.sticky_header;
    std::transform(header.begin(), header.end(), header.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    key = metadata(call, header);
  }
  if (key.empty() && !config.sticky_parameter.empty()) key = message.parameter(config.sticky_parameter);
  return key.empty() ? message.request.id : key;
}

class InferCall final : public CallEvent {
 public:
  InferCall(CallContext& context, Lane& lane) : counted_(context), context_(context), lane_(lane) {
    context_.infer_service.await(&call_, &stream_, lane_.queue, this);
  }
  void happen(bool ok) override {
    switch (state_) {
      case State::kAwaited:
        if (!ok) return delete this;
        ++lane_.infers;
        state_ = State::kReading;
        return stream_.Read(&request_, static_cast<CallEvent*>(this));
      case State::kReading:
        state_ = State::kFinishing;
        if (ok) return infer();
        return stream_.Finish(
            {grpc::StatusCode::INVALID_ARGUMENT, "The call has no message that can be read; send one"},
            static_cast<CallEvent*>(this));
      case State::kFinishing:
        return delete this;
    }
  }

 private:
  void infer() {
    const grpc_compression_algorithm compression = grpc_call_test_only_get_compression_algorithm(call_.c_call());
    if (compression != GRPC_COMPRESS_NONE) call_.set_compression_algorithm(compression);
    start_infer(context_, call_, request_, variant_, [this](InferResponse&& response) { finish(response); });
  }
  /// The object may be gone when this returns.
  void finish(const InferResponse& response) {
    grpc::ByteBuffer message;
    grpc::Status status;
    try {
      if (!response.error)
        message = to_byte_buffer(encode_infer_message(response, variant_, false), response.owner);
      else
        status = to_status(*response.error, response.message);
      if (response.error && response.retry_after_s > 0)
        call_.AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(response.retry_after_s * 1000));
    } catch (const std::bad_alloc&) {
      status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no memory");
    }
    if (status.ok())
      stream_.WriteAndFinish(message, grpc::WriteOptions(), status, static_cast<CallEvent*>(this));
    else
      stream_.Finish(status, static_cast<CallEvent*>(this));
  }

  Counted counted_;
  CallContext& context_;
  Lane& lane_;
  grpc::ServerContext call_;
  grpc::ByteBuffer request_;
  grpc::GenericServerAsyncReaderWriter stream_{&call_};
  Variant variant_ = Variant::kStable;
  enum class State : uint8_t { kAwaited, kReading, kFinishing } state_ = State::kAwaited;
};
}  // namespace

InferService::InferService() {
  AddMethod(new grpc::internal::RpcServiceMethod("/inference.GRPCInferenceService/ModelInfer",
                                                 grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
  MarkMethodRaw(0);
}

void InferService::await(grpc::ServerContext* context, grpc::GenericServerAsyncReaderWriter* stream,
                         grpc::ServerCompletionQueue* queue, CallEvent* event) {
  RequestAsyncBidiStreaming(0, context, stream, queue, queue, event);
}

void await_infer(CallContext& context, Lane& lane) { new InferCall(context, lane); }

grpc::Status to_status(ErrorCode code, const std::string& message) {
  return {static_cast<grpc::StatusCode>(grpc_status(code)), message.substr(0, kMaxMessageChars)};
}

ReceivedMessage take_message(grpc::ByteBuffer& buffer) {
  const auto slice = std::make_shared<grpc::Slice>();
  if (buffer.TrySingleSlice(slice.get()).ok()) {
    buffer.Clear();
    return {{reinterpret_cast<const std::byte*>(slice->begin()), slice->size()}, slice};
  }
  // Not by gRPC's own means, which abort where there is no memory.
  std::vector<grpc::Slice> pieces;
  if (!buffer.Dump(&pieces).ok()) fail(ErrorCode::kInvalidArgument, "The request has no message; send one");
  size_t size = 0;
  for (const grpc::Slice& piece : pieces) size += piece.size();
  const std::shared_ptr<std::byte> whole(allocate_aligned(size).release(), AlignedFree());
  std::byte* to = whole.get();
  for (const grpc::Slice& piece : pieces)
    to = std::copy_n(reinterpret_cast<const std::byte*>(piece.begin()), piece.size(), to);
  buffer.Clear();
  return {{whole.get(), size}, whole};
}

grpc::ByteBuffer to_byte_buffer(const std::vector<MessagePiece>& pieces, const std::shared_ptr<const void>& owner) {
  std::vector<grpc::Slice> slices;
  std::string text;
  for (const MessagePiece& piece : pieces) {
    text += piece.text;
    if (piece.bytes.size() < kSendInPlaceBytes) {
      text.append(reinterpret_cast<const char*>(piece.bytes.data()), piece.bytes.size());
      continue;
    }
    slices.emplace_back(text);
    text.clear();
    slices.emplace_back(
        const_cast<std::byte*>(piece.bytes.data()), piece.bytes.size(),
        [](void* keep) { delete static_cast<std::shared_ptr<const void>*>(keep); },
        new std::shared_ptr<const void>(owner));
  }
  if (!text.empty() || slices.empty()) slices.emplace_back(text);
  return {slices.data(), slices.size()};
}

void start_infer(CallContext& context, const grpc::ServerContext& call, grpc::ByteBuffer& buffer, Variant& variant,
                 InferDone done) {
  const int64_t now = now_ns();
  Target target;
  InferRequest request;
  InferResponse refusal;
  try {
    ReceivedMessage received = take_message(buffer);
    InferMessage message = decode_infer_message(received.bytes, std::move(received.owner));
    refusal.model = message.model;
    refusal.id = message.request.id;
    message.request.sticky = sticky_key(context.server, call, message);
    target = context.server.target(message.model, message.version, message.request.sticky);
    request = std::move(message.request);
    request.arrival_ns = now;
    request.deadline_ns = deadline_ns(call, now);
    if (message.timeout_us > 0) {
      const int64_t asked = now + message.timeout_us * 1000;
      request.deadline_ns = request.deadline_ns == 0 ? asked : std::min(request.deadline_ns, asked);
    }
    variant = target.variant;
  } catch (const Error& error) {
    refusal.error = error.code();
    refusal.message = error.what();
  } catch (const std::bad_alloc&) {
    refusal.error = ErrorCode::kOutOfMemory;
  } catch (const std::exception& error) {
    refusal.error = ErrorCode::kInternal;
    refusal.message = error.what();
  }
  if (!refusal.error) try {
      return context.server.infer(target, std::move(request), done);
    } catch (const std::bad_alloc&) {
      refusal.error = ErrorCode::kOutOfMemory;
    }
  if (refusal.error == ErrorCode::kOutOfMemory && refusal.message.empty()) refusal.message = "no memory";
  done(std::move(refusal));
}

}  // namespace slipway
