// ModelInfer: two events a call. The first brings the whole request, which the polling thread decodes in place and
// submits; the computing thread sends response and status as one batch; the second event ends the call. A client that
// went away meanwhile makes that batch fail, and nothing else.
#include <grpc/support/time.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/impl/rpc_service_method.h>

#include <algorithm>

#include "base/clock.h"
#include "serve/grpc/calls.h"

// gRPC has no public way to learn that a request was compressed; its own interoperability tests use this one.
grpc_compression_algorithm grpc_call_test_only_get_compression_algorithm(grpc_call* call);

namespace slipway {
namespace {
constexpr size_t kSendInPlaceBytes = 4096;  ///< smaller tensors are copied: cheaper than a reference to them
constexpr size_t kMaxMessageChars = 1500;   ///< of an error: clients take 8 KB of metadata, a character up to 3 bytes

int64_t deadline_ns(const grpc::ServerContext& call, int64_t now) {
  const gpr_timespec deadline = call.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return 0;
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return now + left.tv_sec * 1'000'000'000 + left.tv_nsec;
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
  InferCall(CallContext& context, grpc::ServerCompletionQueue* queue)
      : counted_(context), context_(context), queue_(queue) {
    context_.infer_service.await(&call_, &request_, &writer_, queue_, this);
  }
  void happen(bool ok) override {
    if (finishing_ || !ok) return delete this;
    await_infer(context_, queue_);
    finishing_ = true;
    const grpc_compression_algorithm compression = grpc_call_test_only_get_compression_algorithm(call_.c_call());
    if (compression != GRPC_COMPRESS_NONE) call_.set_compression_algorithm(compression);
    start_infer(context_, call_, request_, variant_, [this](InferResponse&& response) { finish(response); });
  }

 private:
  /// The object may be gone when this returns.
  void finish(const InferResponse& response) {
    if (response.error) {
      if (response.retry_after_s > 0)
        call_.AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(response.retry_after_s * 1000));
      writer_.FinishWithError(to_status(*response.error, response.message), static_cast<CallEvent*>(this));
    } else {
      writer_.Finish(to_byte_buffer(encode_infer_message(response, variant_, false), response.owner), grpc::Status::OK,
                     static_cast<CallEvent*>(this));
    }
  }

  Counted counted_;
  CallContext& context_;
  grpc::ServerCompletionQueue* queue_;
  grpc::ServerContext call_;
  grpc::ByteBuffer request_;
  grpc::GenericServerAsyncResponseWriter writer_{&call_};
  Variant variant_ = Variant::kStable;
  bool finishing_ = false;
};
}  // namespace

InferService::InferService() {
  AddMethod(new grpc::internal::RpcServiceMethod("/inference.GRPCInferenceService/ModelInfer",
                                                 grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
  MarkMethodRaw(0);
}

void InferService::await(grpc::ServerContext* context, grpc::ByteBuffer* request,
                         grpc::GenericServerAsyncResponseWriter* writer, grpc::ServerCompletionQueue* queue,
                         CallEvent* event) {
  RequestAsyncUnary(0, context, request, writer, queue, queue, event);
}

void await_infer(CallContext& context, grpc::ServerCompletionQueue* queue) { new InferCall(context, queue); }

grpc::Status to_status(ErrorCode code, const std::string& message) {
  return {static_cast<grpc::StatusCode>(grpc_status(code)), message.substr(0, kMaxMessageChars)};
}

ReceivedMessage take_message(grpc::ByteBuffer& buffer) {
  const auto slice = std::make_shared<grpc::Slice>();
  if (!buffer.TrySingleSlice(slice.get()).ok() && !buffer.DumpToSingleSlice(slice.get()).ok())
    fail(ErrorCode::kInvalidArgument, "The request has no message; send one");
  buffer.Clear();
  return {{reinterpret_cast<const std::byte*>(slice->begin()), slice->size()}, slice};
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
  } catch (const std::exception& error) {
    refusal.error = ErrorCode::kInternal;
    refusal.message = error.what();
  }
  if (refusal.error) return done(std::move(refusal));
  context.server.infer(target, std::move(request), std::move(done));
}

}  // namespace slipway
