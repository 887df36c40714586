// The gRPC server: one listener, a completion queue and a polling thread each of `threads`. What must hold: a
// completion queue is shut down only after the last call object is gone, since a computing thread may still finish one;
// gRPC aborts on an operation that is started later. Calls that there was no memory to wait for are waited for later.
#include "serve/grpc/grpc_plane.h"

#include <absl/synchronization/mutex.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>

#include "base/log.h"
#include "serve/grpc/calls.h"
#include "serve/grpc/credentials.h"

namespace slipway {
namespace {
constexpr int kAwaitedInfers = 32, kAwaitedOthers = 4;  ///< calls that each queue is ready to take at once
constexpr int kMaxConcurrentStreams = 1024;             ///< of a connection
constexpr int kHandshakeTimeoutMs = 20'000;
constexpr size_t kQuotaMessages = 8;  ///< so many of the largest may be on their way at once
constexpr auto kMemoryRetry = std::chrono::milliseconds(100);

/// Once a process. gRPC writes its own account of every failed bind to standard error; ours is the Error. Its mutexes
/// are Abseil's, which Debian builds with a search for lock cycles that takes a global lock at each of them.
void prepare_grpc() {
  static const bool done = [] {
    if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    return true;
  }();
  static_cast<void>(done);
}

/// Makes the lane ready for what it owes; false where there was no memory.
bool await_calls(CallContext& context, Lane& lane) {
  if (lane.infers == 0 && lane.others == 0) return true;
  const Counted counted(context);  // so that stop(), which waits for all that are counted, does not end the queue
  if (context.stopping) return true;
  try {
    for (; lane.infers > 0; --lane.infers) await_infer(context, lane);
    for (; lane.others > 0; --lane.others) await_other(context, lane);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void poll_lane(CallContext& context, Lane lane) {
  using Next = grpc::CompletionQueue::NextStatus;
  for (Next next = Next::TIMEOUT; next != Next::SHUTDOWN;) {
    const auto until = await_calls(context, lane) ? std::chrono::system_clock::time_point::max()
                                                  : std::chrono::system_clock::now() + kMemoryRetry;
    void* tag;
    bool ok;
    next = lane.queue->AsyncNext(&tag, &ok, until);
    if (next != Next::GOT_EVENT) continue;
    try {
      static_cast<CallEvent*>(tag)->happen(ok);
    } catch (const std::bad_alloc&) {
      log_error("There was no memory for a gRPC call; it is given up");
    }
  }
}
}  // namespace

struct GrpcPlane::Impl {
  CallContext context;
  std::shared_ptr<grpc::ServerCredentials> credentials;  ///< the server asks them for certificates
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::vector<std::thread> threads;
  bool stopped = false;
};

GrpcPlane::GrpcPlane(Server& server, GrpcOptions options)
    : impl_(new Impl{.context = {.server = server,
                                 .options = std::move(options),
                                 .infer_service = {},
                                 .other_methods = {},
                                 .slow_lane = {},
                                 .calls = {},
                                 .stopping = {}}}) {
  prepare_grpc();
  const GrpcOptions& o = impl_->context.options;
  const std::string host = o.host.find(':') == std::string::npos ? o.host : "[" + o.host + "]";
  const std::string address = fmt::format("{}:{}", host, o.port);
  const auto limit = static_cast<int>(std::min<uint64_t>(o.max_message_bytes, 1U << 30));
  grpc::ResourceQuota quota("slipway");
  quota.Resize((size_t{64} << 20) + kQuotaMessages * static_cast<size_t>(limit));
  grpc::ServerBuilder builder;
  impl_->credentials = server_credentials(o.tls);
  builder.AddListeningPort(address, impl_->credentials, &impl_->port);
  builder.SetMaxReceiveMessageSize(limit).SetMaxSendMessageSize(-1).SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0)
      .AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxConcurrentStreams)
      .AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0)
      .AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.RegisterService(&impl_->context.infer_service);
  builder.RegisterAsyncGenericService(&impl_->context.other_methods);
  for (int i = 0; i < std::max(o.threads, 1); ++i) impl_->queues.push_back(builder.AddCompletionQueue());
  impl_->server = builder.BuildAndStart();
  if (impl_->server == nullptr || impl_->port == 0) {
    stop(0);
    fail(ErrorCode::kIo,
         "The gRPC port can't be listened on; stop what has it, or choose another (0 picks a free one): {}", address);
  }
}

GrpcPlane::~GrpcPlane() { stop(); }

void GrpcPlane::start() {
  CallContext& context = impl_->context;
  context.slow_lane.start();
  for (const auto& queue : impl_->queues)
    impl_->threads.emplace_back(
        [&context, lane = Lane{queue.get(), kAwaitedInfers, kAwaitedOthers}] { poll_lane(context, lane); });
}

void GrpcPlane::stop(int64_t timeout_ms) {
  if (std::exchange(impl_->stopped, true)) return;
  impl_->context.stopping = true;
  if (impl_->server != nullptr)
    impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms));
  for (int64_t alive; (alive = impl_->context.calls.load()) != 0;) impl_->context.calls.wait(alive);
  impl_->context.slow_lane.stop();
  for (const auto& queue : impl_->queues) queue->Shutdown();
  for (std::thread& thread : impl_->threads) thread.join();
  if (impl_->threads.empty())
    for (const auto& queue : impl_->queues) {
      void* tag;
      for (bool ok; queue->Next(&tag, &ok);) continue;
    }
  impl_->server.reset();
}

uint16_t GrpcPlane::port() const { return static_cast<uint16_t>(impl_->port); }

}  // namespace slipway
