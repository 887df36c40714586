#pragma once
// What model_version.cc starts and version_engine.cc runs.
#include <condition_variable>
#include <map>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/memory.h"
#include "engine/program.h"
#include "engine/session.h"
#include "model/run_limits.h"
#include "serve/batch_queue.h"

namespace slipway {

struct ModelVersion::Engine {
  Engine(ModelVersion& owner, BatchingOptions batching) : owner_(owner), queue_(batching) {}
  ~Engine();

  /// One instance: its sessions and staging buffers, used by one thread.
  struct Instance {
    std::map<int64_t, Session> sessions;
    std::unique_ptr<ProgramSession> program;  ///< where there is no plan
    std::vector<AlignedBytes> inputs, outputs;
  };
  using Requests = std::span<const PendingPtr>;

  void start();
  void submit(InferRequest&& request, Variant variant, Answered done, const ModelVersion* live);

  // Threads.
  void work(Instance& instance);
  void watch_deadlines();

  /// The next batch; empty once the engine stops.
  BatchQueue::Batch next_batch();
  /// Answers all of them. When they fail together, each is computed alone: one caller's fault is one caller's.
  void compute_batch(Instance& instance, Requests requests) noexcept;
  void compute(Instance& instance, Requests requests);
  void compute_together(Instance& instance, Requests requests);
  void compute_by_program(Instance& instance, Requests requests);
  RunLimits limits_of(Requests requests) const;

  void answer(PendingRequest& pending, InferResponse&& response);
  /// With the exception that is being handled.
  void answer_fault(PendingRequest& pending) noexcept;
  void answer_late(PendingRequest& pending) noexcept;
  void answer_error(PendingRequest& pending, ErrorCode code, std::string message, int64_t retry_after_s = 0) noexcept;
  void finish(PendingRequest& pending, InferResponse&& response) noexcept;
  void count_missed(const InferRequest& request, Variant variant) noexcept;
  int64_t expected_wait_us(int64_t rows) const;
  const std::map<int64_t, double>& time_us() const { return owner_.source_.first_run->time_us; }

  ModelVersion& owner_;
  std::vector<Instance> instances_;
  std::mutex mutex_;
  std::condition_variable work_, deadlines_;
  BatchQueue queue_;                               ///< under mutex_, as the rest
  std::vector<PendingPtr> computing_;              ///< those with a deadline
  int64_t watched_until_ns_ = BatchQueue::kNever;  ///< when the deadlines' thread wakes
  int idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace slipway
