// Load over gRPC: calls on completion queues, without generated stubs for the hot path. Each sample is serialised once;
// responses stay bytes unless someone wants the scores. The caller's thread keeps the schedule, a second one takes the
// completions; both work on the run under one mutex, and whoever finds a slot free and a request due starts it.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "inference.grpc.pb.h"
#include "load/transport.h"
#include "model/tensor.h"
#include "serve/grpc/credentials.h"

namespace slipway {
namespace {

constexpr int kMaxChannels = 16;
constexpr double kControlSeconds = 5;
constexpr const char* kStatusNames[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "timeout",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

std::chrono::system_clock::time_point in_seconds(double seconds) {
  return std::chrono::system_clock::now() + std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
}

std::shared_ptr<grpc::Channel> connect(const Url& url, const TlsFiles& tls) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection for each channel
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  auto channel = grpc::CreateCustomChannel(
      url.authority(), url.tls() ? client_credentials(tls) : grpc::InsecureChannelCredentials(), arguments);
  const auto deadline = in_seconds(kControlSeconds);
  auto state = channel->GetState(true);
  while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE &&
         channel->WaitForStateChange(state, deadline))
    state = channel->GetState(true);
  if (state != GRPC_CHANNEL_READY)
    fail(ErrorCode::kIo, "The server can't be reached over gRPC; check that it runs there{}: {}",
         url.tls() ? ", and is trusted by its name (--tls-ca)" : " without TLS (else grpcs://)", url.authority());
  return channel;
}

grpc::ByteBuffer request_bytes(const LoadOptions& options, const LoadSample& sample) {
  inference::ModelInferRequest request;
  request.set_model_name(options.model);
  request.set_model_version(options.version);
  request.set_id(sample.id);
  for (const WireTensor& t : sample.inputs) {
    auto* input = request.add_inputs();
    input->set_name(t.name);
    input->set_datatype(std::string(datatype_name(t.dtype)));
    for (const int64_t dim : t.dims) input->add_shape(dim);
    request.add_raw_input_contents(t.bytes.data(), t.bytes.size());
  }
  const grpc::Slice slice(request.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

bool read_scores(grpc::ByteBuffer& bytes, std::vector<float>& scores, int64_t& version) {
  inference::ModelInferResponse response;
  if (!grpc::SerializationTraits<inference::ModelInferResponse>::Deserialize(&bytes, &response).ok() ||
      response.outputs_size() == 0 || response.raw_output_contents_size() == 0)
    return false;
  const auto& output = response.outputs(0);
  const std::string& raw = response.raw_output_contents(0);
  try {
    Tensor tensor(parse_datatype(output.datatype()), Dims(output.shape().begin(), output.shape().end()));
    if (tensor.bytes() != raw.size() || tensor.dtype() == DType::kString) return false;
    std::memcpy(tensor.mutable_raw(), raw.data(), raw.size());
    scores = to_floats(tensor);
  } catch (const Error&) {
    return false;
  }
  version = std::strtoll(response.model_version().c_str(), nullptr, 10);
  return true;
}

class GrpcLoad {
 public:
  GrpcLoad(const Url& url, const LoadOptions& options, const std::vector<LoadSample>& samples, LoadRun& run)
      : options_(options), run_(run), calls_(static_cast<size_t>(options.concurrency)) {
    for (const LoadSample& sample : samples) requests_.push_back(request_bytes(options, sample));
    for (int i = 0; i < std::min(options.concurrency, kMaxChannels); ++i)
      stubs_.emplace_back(connect(url, options.tls));
    for (size_t i = calls_.size(); i-- > 0;) free_.push_back(i);
    completions_ = std::thread([this] { complete_all(); });
  }
  ~GrpcLoad() {
    queue_.Shutdown();
    completions_.join();
  }
  GrpcLoad(const GrpcLoad&) = delete;
  GrpcLoad& operator=(const GrpcLoad&) = delete;

  void run() {
    const int slack = ::prctl(PR_GET_TIMERSLACK);
    ::prctl(PR_SET_TIMERSLACK, 1);
    std::unique_lock lock(mutex_);
    bool cancelled = false;
    while (true) {
      const int64_t now = now_ns();
      run_.tick(now);
      if (interrupted() && !cancelled) {
        run_.interrupt(now);
        for (Call& call : calls_)
          if (call.context) call.context->TryCancel();
        cancelled = true;
      }
      rest(now);
      start_due(now);
      if (run_.over(now) && in_flight_ == 0) break;
      const int64_t until = std::min(run_.wake_ns(!free_.empty()), now + kSweepNs);
      wake_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(until)));
    }
    ::prctl(PR_SET_TIMERSLACK, slack);
  }

 private:
  struct Call {
    std::unique_ptr<grpc::ClientContext> context;  ///< while under way
    std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
    grpc::ByteBuffer response;
    grpc::Status status;
    LoadRun::Ticket ticket;
    int64_t rests_until_ns = 0;
  };

  void start_due(int64_t now) {
    while (!free_.empty()) {
      const auto ticket = run_.take(now);
      if (!ticket) return;
      const size_t index = free_.back();
      free_.pop_back();
      ++in_flight_;
      Call& call = calls_[index];
      call.ticket = *ticket;
      call.context = std::make_unique<grpc::ClientContext>();
      call.context->set_deadline(in_seconds(options_.timeout_seconds));
      call.reader = stubs_[index % stubs_.size()].PrepareUnaryCall(call.context.get(), kMethod,
                                                                   requests_[ticket->sample], &queue_);
      call.reader->StartCall();
      call.reader->Finish(&call.response, &call.status, reinterpret_cast<void*>(index));
      now = now_ns();
    }
  }

  void complete_all() {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      const int64_t now = now_ns();
      const std::lock_guard lock(mutex_);
      const bool none_free = free_.empty();
      finish(reinterpret_cast<size_t>(tag), now);
      start_due(now_ns());
      if (in_flight_ == 0 || (none_free && !free_.empty())) wake_.notify_one();
    }
  }

  void finish(size_t index, int64_t now) {
    Call& call = calls_[index];
    LoadOutcome outcome;
    std::vector<float> scores;
    const std::string message = call.status.error_message();
    const auto code = static_cast<size_t>(call.status.error_code());
    if (!call.status.ok()) {
      outcome.error = code < std::size(kStatusNames) ? kStatusNames[code] : "UNKNOWN";
      outcome.text = message;
    } else if (options_.on_scores) {
      if (read_scores(call.response, scores, outcome.version)) {
        outcome.scores = scores;
      } else {
        outcome.error = "malformed";
        outcome.text = "the answer holds no binary output";
      }
    }
    run_.finish(call.ticket, now, outcome);
    --in_flight_;
    call.reader.reset();
    call.context.reset();
    call.response.Clear();
    if (call.status.error_code() == grpc::UNAVAILABLE && options_.rate <= 0)
      call.rests_until_ns = now + kRestNs;
    else
      free_.push_back(index);
  }

  /// Slots that found no server come back after a while.
  void rest(int64_t now) {
    for (size_t i = 0; i < calls_.size(); ++i)
      if (calls_[i].rests_until_ns != 0 && now >= calls_[i].rests_until_ns) {
        calls_[i].rests_until_ns = 0;
        free_.push_back(i);
      }
  }

  static constexpr const char* kMethod = "/inference.GRPCInferenceService/ModelInfer";
  const LoadOptions& options_;
  std::vector<grpc::ByteBuffer> requests_;
  std::vector<grpc::GenericStub> stubs_;
  grpc::CompletionQueue queue_;
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable wake_;
  LoadRun& run_;
  std::vector<Call> calls_;
  std::vector<size_t> free_;
  int64_t in_flight_ = 0;
  std::thread completions_;
};

[[noreturn]] void refused(const grpc::Status& status, const Url& url) {
  const bool absent = status.error_code() == grpc::NOT_FOUND || status.error_code() == grpc::INVALID_ARGUMENT;
  fail(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "The server refused; check the URL and the model's name: {}: {}",
       url.authority(), status.error_message());
}

}  // namespace

void load_over_grpc(const Url& url, const LoadOptions& options, const std::vector<LoadSample>& samples, LoadRun& run) {
  GrpcLoad(url, options, samples, run).run();
}

std::vector<std::string> ready_models_over_grpc(const Url& url, const TlsFiles& tls) {
  const auto stub = inference::GRPCInferenceService::NewStub(connect(url, tls));
  grpc::ClientContext context;
  context.set_deadline(in_seconds(kControlSeconds));
  inference::RepositoryIndexRequest request;
  request.set_ready(true);
  inference::RepositoryIndexResponse response;
  if (const auto status = stub->RepositoryIndex(&context, request, &response); !status.ok()) refused(status, url);
  std::vector<std::string> names;
  for (const auto& entry : response.models())
    if (entry.state() == "READY") names.push_back(entry.name());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

ModelDescription describe_over_grpc(const Url& url, const std::string& model, const std::string& version,
                                    const TlsFiles& tls) {
  const auto stub = inference::GRPCInferenceService::NewStub(connect(url, tls));
  grpc::ClientContext context;
  context.set_deadline(in_seconds(kControlSeconds));
  inference::ModelMetadataRequest request;
  request.set_name(model);
  request.set_version(version);
  inference::ModelMetadataResponse response;
  if (const auto status = stub->ModelMetadata(&context, request, &response); !status.ok()) refused(status, url);
  ModelDescription description{response.name(), {}};
  for (const auto& input : response.inputs())
    description.inputs.push_back(
        {input.name(), parse_datatype(input.datatype()), Dims(input.shape().begin(), input.shape().end())});
  return description;
}

}  // namespace slipway
