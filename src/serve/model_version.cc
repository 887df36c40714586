// A version at work: each instance is a thread with a Session per plan size. It takes batches from the queue, gathers
// their rows (a request that fills a plan is computed where it lies), and answers each request as soon as its last row
// is there. Where rows are not proven independent, or a plan contradicts that proof, each request is a batch of its own
// and needs a plan for exactly its rows. One more thread answers requests whose deadline passes, computed or not.
#include "serve/model_version.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "serve/batch_queue.h"
#include "serve/first_run.h"
#include "serve/wire.h"

namespace slipway {
namespace {

// `last` is of the plan for the most rows: what differs from `first`, of that for the fewest, follows the rows.
std::vector<Port> ports_of(const std::vector<PortInfo>& first, const std::vector<PortInfo>& last, bool batches) {
  std::vector<Port> ports;
  for (size_t i = 0; i < first.size(); ++i) {
    Port& port = ports.emplace_back(Port{first[i].name, first[i].dtype, first[i].dims});
    for (size_t axis = 0; axis < port.dims.size(); ++axis)
      if ((batches && axis == 0) || port.dims[axis] != last[i].dims[axis]) port.dims[axis] = -1;
  }
  return ports;
}

std::vector<Port> ports_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<Port> ports;
  for (const ValueId id : ids) {
    const Value& v = graph.value(id);
    Port& port = ports.emplace_back(Port{v.name, v.dtype, {}});
    for (size_t axis = 0; axis < v.shape.rank(); ++axis)
      port.dims.push_back(v.shape[axis].is_known() ? v.shape[axis].value() : -1);
  }
  return ports;
}

uint64_t next_generation() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1) + 1;
}

/// By its bits, in blocks that the compiler turns into vector code.
template <typename Bits>
bool any_nan(std::span<const std::byte> bytes, Bits infinity) {
  constexpr size_t kBlock = 64;
  const auto sign_off = static_cast<Bits>(static_cast<Bits>(~Bits{0}) >> 1);
  Bits block[kBlock];
  for (size_t at = 0; at < bytes.size(); at += sizeof block) {
    const size_t count = std::min(bytes.size() - at, sizeof block);
    std::memset(block, 0, count < sizeof block ? sizeof block : 0);
    std::memcpy(block, bytes.data() + at, count);
    unsigned found = 0;
    for (size_t i = 0; i < kBlock; ++i) found |= static_cast<Bits>(block[i] & sign_off) > infinity ? 1U : 0U;
    if (found != 0) return true;
  }
  return false;
}

bool has_nan(const WireTensor& t) {
  switch (t.dtype) {
    case DType::kFloat32:
      return any_nan<uint32_t>(t.bytes, 0x7F800000);
    case DType::kFloat64:
      return any_nan<uint64_t>(t.bytes, 0x7FF0000000000000);
    case DType::kFloat16:
      return any_nan<uint16_t>(t.bytes, 0x7C00);
    case DType::kBfloat16:
      return any_nan<uint16_t>(t.bytes, 0x7F80);
    default:
      return false;
  }
}

int64_t epoch_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// Whether a version takes a request that another one refuses.
bool takes(const ModelVersion& version, InferRequest request) {
  try {
    match_inputs(request, version);
    return true;
  } catch (const Error&) {
    return false;
  }
}

size_t row_bytes(const PortInfo& port, int64_t plan_rows) {
  return bytes_of(port.dtype, element_count(port.dims)) / static_cast<size_t>(plan_rows);
}

}  // namespace

const char* to_string(Proof proof) {
  constexpr const char* names[] = {"passed", "failed", "missing", "mismatched"};
  return names[static_cast<int>(proof)];
}

struct ModelVersion::Engine {
  Engine(ModelVersion& owner, BatchingOptions batching) : owner_(owner), queue_(batching) {}
  ~Engine() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    deadlines_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// One instance: its sessions and staging buffers, used by one thread.
  struct Instance {
    std::map<int64_t, Session> sessions;
    std::vector<AlignedBytes> inputs, outputs;
  };

  void start();
  void work(Instance& instance);
  void watch_deadlines();
  void compute(Instance& instance, BatchQueue::Batch& batch);
  void compute_alone(Instance& instance, PendingRequest& pending);
  void compute_by_reference(BatchQueue::Batch& batch);
  void answer(PendingRequest& pending, InferResponse&& response);
  void count_missed(const InferRequest& request, Variant variant);
  void answer_error(PendingRequest& pending, ErrorCode code, std::string message, int64_t retry_after_s = 0);
  int64_t expected_wait_us(int64_t rows) const;
  const std::map<int64_t, double>& time_us() const { return owner_.source_.first_run->time_us; }

  ModelVersion& owner_;
  std::vector<Instance> instances_;
  std::mutex mutex_;
  std::condition_variable work_, deadlines_;
  BatchQueue queue_;  ///< under mutex_, as the rest
  std::multiset<int64_t> computing_deadlines_ns_;
  std::vector<PendingPtr> computing_;              ///< those with a deadline
  int64_t watched_until_ns_ = BatchQueue::kNever;  ///< when the deadlines' thread wakes
  int idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

void ModelVersion::Engine::answer(PendingRequest& pending, InferResponse&& response) {
  if (pending.answered.exchange(true)) return;
  VariantMetrics& m = owner_.metrics_.variants[static_cast<size_t>(pending.variant)];
  const int64_t now = now_ns();
  response.model = owner_.model();
  response.version = owner_.version();
  response.id = pending.request.id;
  response.total_ns = now - pending.request.arrival_ns;
  m.requests.fetch_add(1, std::memory_order_relaxed);
  if (response.error) {
    m.errors[static_cast<size_t>(*response.error)].fetch_add(1, std::memory_order_relaxed);
    if (response.error == ErrorCode::kDeadline) count_missed(pending.request, pending.variant);
  } else {
    if (std::any_of(response.outputs.begin(), response.outputs.end(), has_nan))
      m.with_nan.fetch_add(1, std::memory_order_relaxed);
    owner_.metrics_.last_inference_ms.store(epoch_ms(), std::memory_order_relaxed);
    m.rows.fetch_add(pending.rows, std::memory_order_relaxed);
    m.queue_us.add(response.queue_ns / 1000);
    m.compute_us.add(response.compute_ns / 1000);
    m.total_us.add(response.total_ns / 1000);
  }
  pending.done(pending.request, std::move(response));
  pending.done = nullptr;
}

/// A caller may allow less time than any version needs; what the server itself allows is none of the callers' choice.
void ModelVersion::Engine::count_missed(const InferRequest& request, Variant variant) {
  const int64_t allowed_us = (request.deadline_ns - request.arrival_ns) / 1000;
  const int64_t limit_us = owner_.config().timeout_ms * 1000;
  if (limit_us == 0 || allowed_us < limit_us)
    owner_.metrics_.variants[static_cast<size_t>(variant)].missed_us.add(std::max<int64_t>(allowed_us, 0));
}

void ModelVersion::Engine::answer_error(PendingRequest& pending, ErrorCode code, std::string message,
                                        int64_t retry_after_s) {
  InferResponse response;
  response.error = code;
  response.message = std::move(message);
  response.retry_after_s = retry_after_s;
  answer(pending, std::move(response));
}

int64_t ModelVersion::Engine::expected_wait_us(int64_t rows) const {
  if (time_us().empty()) return 0;
  const auto& [size, time] = *time_us().rbegin();
  const int64_t ahead = (queue_.rows() + rows + size - 1) / size + (idle_ == 0 ? 1 : 0);
  return static_cast<int64_t>(static_cast<double>(ahead) * time / static_cast<double>(instances_.size()));
}

void ModelVersion::Engine::start() {
  const auto& plans = owner_.source_.plans;
  instances_.resize(static_cast<size_t>(std::max(owner_.config().instances, 1)));
  for (Instance& instance : instances_) {
    for (const auto& [rows, plan] : plans) {
      RunBuffers buffers(*plan);
      instance.sessions.emplace(rows, Session(plan)).first->second.run(buffers.in, buffers.out);
    }
    if (plans.size() < 2 || !owner_.batching().proven) continue;
    const auto& [rows, plan] = *plans.rbegin();
    for (const PortInfo& port : plan->inputs())
      instance.inputs.push_back(allocate_aligned(bytes_of(port.dtype, element_count(port.dims))));
    for (const PortInfo& port : plan->outputs())
      instance.outputs.push_back(allocate_aligned(bytes_of(port.dtype, element_count(port.dims))));
  }
  for (Instance& instance : instances_) threads_.emplace_back([this, &instance] { work(instance); });
  threads_.emplace_back([this] { watch_deadlines(); });
}

void ModelVersion::Engine::work(Instance& instance) {
  std::unique_lock lock(mutex_);
  while (true) {
    BatchQueue::Batch batch = queue_.take(stopping_ ? BatchQueue::kNever : now_ns());
    if (batch.requests.empty()) {
      if (stopping_) return;
      ++idle_;
      const int64_t due = queue_.due_ns();
      if (due == BatchQueue::kNever)
        work_.wait(lock);
      else
        work_.wait_for(lock, std::chrono::nanoseconds(std::max<int64_t>(due - now_ns(), 0)));
      --idle_;
      continue;
    }
    owner_.metrics_.queue_depth.store(queue_.size(), std::memory_order_relaxed);
    for (const PendingPtr& pending : batch.requests)
      if (pending->request.deadline_ns != 0) computing_.push_back(pending);
    lock.unlock();
    auto& counter = batch.reason == CloseReason::kSize    ? owner_.metrics_.closed_by_size
                    : batch.reason == CloseReason::kDelay ? owner_.metrics_.closed_by_delay
                                                          : owner_.metrics_.closed_by_idle;
    counter.fetch_add(1, std::memory_order_relaxed);
    try {
      if (owner_.source_.plans.empty())
        compute_by_reference(batch);
      else if (owner_.request_rows_.empty())
        compute(instance, batch);
      else
        for (const PendingPtr& pending : batch.requests) compute_alone(instance, *pending);
    } catch (const Error& error) {
      for (const PendingPtr& pending : batch.requests) answer_error(*pending, error.code(), error.what());
    } catch (const std::exception& error) {
      for (const PendingPtr& pending : batch.requests) answer_error(*pending, ErrorCode::kInternal, error.what());
    }
    lock.lock();
    std::erase_if(computing_, [](const PendingPtr& pending) { return pending->answered.load(); });
  }
}

void ModelVersion::Engine::watch_deadlines() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const int64_t now = now_ns();
    std::vector<PendingPtr> expired = queue_.take_expired(now);
    if (!expired.empty()) owner_.metrics_.queue_depth.store(queue_.size(), std::memory_order_relaxed);
    int64_t next = queue_.next_deadline_ns();
    for (const PendingPtr& pending : computing_) {
      if (pending->answered) continue;
      if (pending->request.deadline_ns <= now)
        expired.push_back(pending);
      else
        next = std::min(next, pending->request.deadline_ns);
    }
    if (!expired.empty()) {
      lock.unlock();
      for (const PendingPtr& pending : expired)
        answer_error(*pending, ErrorCode::kDeadline,
                     "The deadline passed before the answer was there; allow more time.");
      lock.lock();
      continue;
    }
    watched_until_ns_ = next;
    if (next == BatchQueue::kNever)
      deadlines_.wait(lock);
    else
      deadlines_.wait_for(lock, std::chrono::nanoseconds(next - now));
  }
}

void ModelVersion::Engine::compute(Instance& instance, BatchQueue::Batch& batch) {
  const Plan& smallest = *owner_.source_.plans.begin()->second;
  const int64_t plan_unit = owner_.source_.plans.begin()->first;
  const size_t inputs = smallest.inputs().size(), outputs = smallest.outputs().size();
  std::vector<size_t> in_bytes, out_bytes;  // of a row
  for (const PortInfo& port : smallest.inputs()) in_bytes.push_back(row_bytes(port, plan_unit));
  for (const PortInfo& port : smallest.outputs()) out_bytes.push_back(row_bytes(port, plan_unit));

  // One block a request for its outputs, each at an aligned place.
  struct Part {
    std::shared_ptr<std::byte> block;
    std::vector<std::byte*> out;
    int64_t first = 0;
  };
  std::vector<Part> parts;
  int64_t rows = 0;
  for (const PendingPtr& pending : batch.requests) {
    size_t bytes = 0;
    std::vector<size_t> at;
    for (const size_t b : out_bytes) {
      at.push_back(bytes);
      bytes += round_up(b * static_cast<size_t>(pending->rows), kAlignment);
    }
    Part part{.block = {allocate_aligned(bytes).release(), AlignedFree()}, .out = {}, .first = rows};
    for (const size_t a : at) part.out.push_back(part.block.get() + a);
    parts.push_back(std::move(part));
    rows += pending->rows;
  }

  const int64_t started = now_ns();
  std::vector<const void*> in(inputs);
  std::vector<void*> out(outputs);
  int64_t at = 0;
  size_t next = 0;  // first request that is not answered yet
  for (const int64_t size : cover_rows(rows, time_us())) {
    const int64_t count = std::min(size, rows - at);
    const PendingRequest& first = *batch.requests[next];
    const int64_t inside = at - parts[next].first;
    const bool direct = count == size && inside + size <= first.rows;
    if (direct) {
      for (size_t i = 0; i < inputs; ++i)
        in[i] = first.request.inputs[i].bytes.data() + static_cast<size_t>(inside) * in_bytes[i];
      for (size_t i = 0; i < outputs; ++i) out[i] = parts[next].out[i] + static_cast<size_t>(inside) * out_bytes[i];
    } else {
      for (size_t i = 0; i < inputs; ++i) in[i] = instance.inputs[i].get();
      for (size_t i = 0; i < outputs; ++i) out[i] = instance.outputs[i].get();
    }
    // Rows [at, at + count) of the batch, request by request.
    const auto each_piece = [&](const auto& body) {
      for (size_t r = next; r < parts.size() && parts[r].first < at + count; ++r) {
        const int64_t begin = std::max(parts[r].first, at);
        const int64_t end = std::min(parts[r].first + batch.requests[r]->rows, at + count);
        body(r, static_cast<size_t>(begin - parts[r].first), static_cast<size_t>(begin - at),
             static_cast<size_t>(end - begin));
      }
    };
    if (!direct) {
      each_piece([&](size_t r, size_t from, size_t to, size_t n) {
        for (size_t i = 0; i < inputs; ++i)
          std::memcpy(instance.inputs[i].get() + to * in_bytes[i],
                      batch.requests[r]->request.inputs[i].bytes.data() + from * in_bytes[i], n * in_bytes[i]);
      });
      for (size_t i = 0; i < inputs; ++i)  // padding: what it holds does not matter, but let it be defined
        std::memset(instance.inputs[i].get() + static_cast<size_t>(count) * in_bytes[i], 0,
                    static_cast<size_t>(size - count) * in_bytes[i]);
    }
    instance.sessions.at(size).run(in, out);
    owner_.metrics_.executions.fetch_add(1, std::memory_order_relaxed);
    owner_.metrics_.batch_rows.add(count);
    if (!direct)
      each_piece([&](size_t r, size_t to, size_t from, size_t n) {
        for (size_t i = 0; i < outputs; ++i)
          std::memcpy(parts[r].out[i] + to * out_bytes[i], instance.outputs[i].get() + from * out_bytes[i],
                      n * out_bytes[i]);
      });
    at += count;
    const int64_t now = now_ns();
    for (; next < parts.size() && parts[next].first + batch.requests[next]->rows <= at; ++next) {
      PendingRequest& pending = *batch.requests[next];
      InferResponse response;
      response.queue_ns = started - pending.queued_ns;
      response.compute_ns = now - started;
      response.batch_rows = rows;
      response.owner = parts[next].block;
      const auto add = [&](size_t i) {
        const Port& port = owner_.outputs_[i];
        WireTensor& t = response.outputs.emplace_back(WireTensor{port.name, port.dtype, port.dims, {}});
        if (owner_.max_rows_ > 0) t.dims.front() = pending.rows;
        t.bytes = {parts[next].out[i], out_bytes[i] * static_cast<size_t>(pending.rows)};
      };
      if (pending.request.outputs.empty())
        for (size_t i = 0; i < outputs; ++i) add(i);
      for (const std::string& name : pending.request.outputs)
        for (size_t i = 0; i < outputs; ++i)
          if (owner_.outputs_[i].name == name) add(i);
      answer(pending, std::move(response));
    }
  }
  owner_.metrics_.compute_ns.fetch_add(now_ns() - started, std::memory_order_relaxed);
}

void ModelVersion::Engine::compute_alone(Instance& instance, PendingRequest& pending) {
  const int64_t started = now_ns();
  const Plan& plan = *owner_.source_.plans.at(pending.rows);
  std::vector<const void*> in;
  for (const WireTensor& t : pending.request.inputs) in.push_back(t.bytes.data());
  std::vector<size_t> at;
  size_t bytes = 0;
  for (const PortInfo& port : plan.outputs()) {
    at.push_back(bytes);
    bytes += round_up(bytes_of(port.dtype, element_count(port.dims)), kAlignment);
  }
  const std::shared_ptr<std::byte> block(allocate_aligned(bytes).release(), AlignedFree());
  std::vector<void*> out;
  for (const size_t a : at) out.push_back(block.get() + a);
  instance.sessions.at(pending.rows).run(in, out);
  InferResponse response;
  response.queue_ns = started - pending.queued_ns;
  response.compute_ns = now_ns() - started;
  response.batch_rows = pending.rows;
  response.owner = block;
  const auto add = [&](size_t i) {
    const PortInfo& port = plan.outputs()[i];
    response.outputs.push_back(
        {port.name, port.dtype, port.dims, {block.get() + at[i], bytes_of(port.dtype, element_count(port.dims))}});
  };
  if (pending.request.outputs.empty())
    for (size_t i = 0; i < at.size(); ++i) add(i);
  for (const std::string& name : pending.request.outputs)
    for (size_t i = 0; i < at.size(); ++i)
      if (owner_.outputs_[i].name == name) add(i);
  owner_.metrics_.executions.fetch_add(1, std::memory_order_relaxed);
  owner_.metrics_.batch_rows.add(pending.rows);
  owner_.metrics_.compute_ns.fetch_add(response.compute_ns, std::memory_order_relaxed);
  answer(pending, std::move(response));
}

void ModelVersion::Engine::compute_by_reference(BatchQueue::Batch& batch) {
  for (const PendingPtr& pending : batch.requests) {
    const int64_t started = now_ns();
    std::vector<Tensor> inputs;
    for (const WireTensor& wire : pending->request.inputs) inputs.push_back(to_tensor(wire));
    const auto results = std::make_shared<std::vector<std::vector<std::byte>>>();
    InferResponse response;
    const std::vector<Tensor> outputs = evaluate(owner_.source_.graph, inputs);
    const auto add = [&](size_t i) {
      const auto& bytes = results->emplace_back(wire_bytes(outputs[i]));
      response.outputs.push_back({owner_.outputs_[i].name, outputs[i].dtype(), outputs[i].dims(), bytes});
    };
    results->reserve(outputs.size() + pending->request.outputs.size());
    if (pending->request.outputs.empty())
      for (size_t i = 0; i < outputs.size(); ++i) add(i);
    for (const std::string& name : pending->request.outputs)
      for (size_t i = 0; i < outputs.size(); ++i)
        if (owner_.outputs_[i].name == name) add(i);
    response.owner = results;
    response.queue_ns = started - pending->queued_ns;
    response.compute_ns = now_ns() - started;
    response.batch_rows = pending->rows;
    owner_.metrics_.executions.fetch_add(1, std::memory_order_relaxed);
    owner_.metrics_.batch_rows.add(pending->rows);
    owner_.metrics_.compute_ns.fetch_add(response.compute_ns, std::memory_order_relaxed);
    answer(*pending, std::move(response));
  }
}

ModelVersion::ModelVersion(VersionSource source) : generation_(next_generation()), source_(std::move(source)) {
  if (!source_.first_run) source_.first_run = make_first_run(source_);
  const FirstRun& first = *source_.first_run;
  log_info("{}/{}: {}", source_.model, source_.version,
           first.batching.proven ? "rows are independent, requests are batched"
                                 : "requests are not batched: " + first.batching.reason);
  const bool batches = first.batching.proven;
  if (source_.plans.empty()) {
    inputs_ = ports_of(source_.graph, source_.graph.inputs());
    outputs_ = ports_of(source_.graph, source_.graph.outputs());
  } else {
    const Plan &fewest = *source_.plans.begin()->second, &most = *source_.plans.rbegin()->second;
    inputs_ = ports_of(fewest.inputs(), most.inputs(), batches);
    outputs_ = ports_of(fewest.outputs(), most.outputs(), batches);
    source_.graph = Graph();  // the plans hold what is needed of it
  }
  max_rows_ = batches ? std::max<int64_t>(source_.config.batching.max_rows, 1) : 0;
  if (!batches && first.any_rows)
    for (const auto& [rows, of_rows] : source_.plans) request_rows_.push_back(rows);
  preprocess_ = first.preprocess ? first.preprocess : source_.config.preprocess;
  labels_ = first.labels.empty() ? source_.config.labels : first.labels;

  BatchingOptions batching = source_.config.batching;
  batching.max_rows = batches ? source_.plans.rbegin()->first : 1;
  engine_ = std::make_unique<Engine>(*this, batching);
  engine_->start();
}

ModelVersion::~ModelVersion() = default;

uint64_t memory_bytes(const VersionSource& source) {
  uint64_t bytes = 0;
  for (const auto& [rows, plan] : source.plans) {
    const MemoryInfo m = plan->memory();
    bytes += m.weight_bytes + (m.arena_bytes + m.scratch_bytes) * static_cast<uint64_t>(source.config.instances);
  }
  return bytes;
}

void ModelVersion::submit(InferRequest&& request, Variant variant, Answered done, const ModelVersion* live) {
  const auto pending = std::make_shared<PendingRequest>();
  pending->request = std::move(request);
  pending->variant = variant;
  pending->done = std::move(done);
  try {
    pending->rows = match_inputs(pending->request, *this);
  } catch (const Error& error) {
    if (live != nullptr && takes(*live, pending->request))
      return engine_->answer_error(
          *pending, ErrorCode::kInternal,
          fmt::format("The rollout's candidate does not take what the live version takes: {}", error.what()));
    return engine_->answer_error(*pending, error.code(), error.what());
  }
  pending->queued_ns = now_ns();
  const int64_t deadline = pending->request.deadline_ns;
  int64_t wait_us = 0;
  bool too_late = false;
  {
    const std::lock_guard lock(engine_->mutex_);
    wait_us = engine_->expected_wait_us(pending->rows);
    too_late = deadline != 0 && pending->queued_ns + wait_us * 1000 > deadline;
    if (!too_late && engine_->queue_.push(pending)) {
      metrics_.queue_depth.store(engine_->queue_.size(), std::memory_order_relaxed);
      if (engine_->idle_ > 0) engine_->work_.notify_one();
      if (deadline != 0 && deadline < engine_->watched_until_ns_) engine_->deadlines_.notify_one();
      return;
    }
  }
  if (too_late) engine_->count_missed(pending->request, variant);
  engine_->answer_error(*pending, ErrorCode::kOverloaded,
                        too_late ? "The queue is too long for the request's deadline; retry later or allow more time."
                                 : "The queue is full; retry later.",
                        wait_us / 1'000'000 + 1);
}

}  // namespace slipway
