// The way back, practised on live traffic: a hundredth of it goes to the candidate, then none. A probe whose key falls
// into the candidate's share asks before and after, so that what is timed is what a user would see.
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/clock.h"
#include "base/error.h"
#include "rollout/rollout.h"

namespace slipway {
namespace {

constexpr int kDrillShare = 100;  // of 10,000
constexpr auto kProbeTimeout = std::chrono::seconds(10);

/// Zeros in the model's smallest shapes (of BYTES, empty elements).
InferRequest zeros_for(const ModelVersion& version) {
  InferRequest request;
  std::vector<Dims> dims;
  std::vector<size_t> bytes;
  size_t most = 0;
  for (const Port& port : version.inputs()) {
    Dims d = port.dims;
    for (int64_t& size : d) size = size < 0 ? 1 : size;
    const int64_t elements = element_count(d);
    bytes.push_back(port.dtype == DType::kString ? 4 * static_cast<size_t>(elements) : bytes_of(port.dtype, elements));
    most = std::max(most, bytes.back());
    dims.push_back(std::move(d));
  }
  const auto zeros = std::make_shared<const std::vector<std::byte>>(most);
  for (size_t i = 0; i < dims.size(); ++i)
    request.inputs.push_back({.name = version.inputs()[i].name,
                              .dtype = version.inputs()[i].dtype,
                              .dims = dims[i],
                              .bytes = std::span(*zeros).first(bytes[i])});
  request.owner = zeros;
  return request;
}

/// The version that answers a request with this key, whatever it says.
int64_t answering_version(Server& server, const std::string& model, const std::string& key) {
  struct Answer {
    std::mutex mutex;
    std::condition_variable arrived;
    int64_t version = 0;
  };
  const Target target = server.target(model, {}, key);
  InferRequest request = zeros_for(*target.version);
  request.id = request.sticky = key;
  const auto answer = std::make_shared<Answer>();
  server.infer(target, std::move(request), [answer](InferResponse&& response) {
    const std::lock_guard lock(answer->mutex);
    answer->version = response.version;
    answer->arrived.notify_all();
  });
  std::unique_lock lock(answer->mutex);
  if (!answer->arrived.wait_for(lock, kProbeTimeout, [&] { return answer->version != 0; }))
    fail(ErrorCode::kDeadline, "The drill's probe was not answered; see why the server is slow: {}", model);
  return answer->version;
}

std::string key_of_candidate(const std::string& model) {
  for (int i = 0;; ++i) {
    std::string key = fmt::format("drill-{}", i);
    if (sticky_bucket(model, key) < kDrillShare) return key;
  }
}

}  // namespace

DrillResult practise_rollback(Server& server, const std::string& model, int64_t live, int64_t candidate,
                              const std::string& sha256) {
  const std::string key = key_of_candidate(model);
  const Routing back{.stable = live};
  DrillResult result{.live = live, .candidate = candidate};
  server.route(model, {.stable = live, .candidate = candidate, .candidate_share = kDrillShare}, {{candidate, sha256}});
  int64_t decided = 0;
  try {
    const int64_t version = answering_version(server, model, key);
    if (version != candidate)
      fail(ErrorCode::kInternal, "The candidate's share was not routed to it: {}/{} answered", model, version);
    decided = now_ns();
    server.route(model, back);
    result.routed_us = static_cast<double>(now_ns() - decided) / 1000;
  } catch (...) {
    server.route(model, back);
    throw;
  }
  while (answering_version(server, model, key) != live) {
    if (now_ns() - decided > std::chrono::nanoseconds(kProbeTimeout).count())
      fail(ErrorCode::kDeadline, "The live version did not take its traffic back: {}/{}", model, live);
  }
  result.effective_us = static_cast<double>(now_ns() - decided) / 1000;
  return result;
}

}  // namespace slipway
