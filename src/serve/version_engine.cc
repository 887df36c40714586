// A version at work: each instance is a thread with a Session per plan size. It takes batches from the queue, gathers
// their rows (a request that fills a plan is computed where it lies), and answers each request as soon as its last row
// is there. Where not all shapes are known beforehand, or rows are not proven independent, or a plan contradicts that
// proof, its program computes requests at the shapes that they have: those of equal shapes together, if rows are proven
// independent. One more thread answers requests whose deadline passes, computed or not.
//
// A batch that fails is computed again request by request, those apart that are answered by then, so that only what is
// wrong by itself stays without its result. Every plan ran when the version became warm: where one fails later, the
// request's values are the cause (an index outside its axis), or memory is. No exception leaves a thread; a request
// that is taken from the queue is answered, with an empty message where there is no memory for one.
#include "serve/version_engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "base/clock.h"
#include "base/error.h"
#include "serve/batching.h"
#include "serve/padding.h"
#include "serve/wire.h"

namespace slipway {
namespace {

constexpr size_t kComparedBytes = 256;
constexpr auto kMemoryPause = std::chrono::milliseconds(10);

int64_t epoch_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
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

/// What is the same for all rows of a batch lets only those requests share one that hold the same there; what is large
/// is not looked at.
void add_contents(const WireTensor& t, PendingRequest& pending) {
  if (t.bytes.size() > kComparedBytes)
    pending.shape.push_back(static_cast<int64_t>(reinterpret_cast<intptr_t>(&pending)));
  else
    for (const std::byte b : t.bytes) pending.shape.push_back(static_cast<int64_t>(b));
}

/// Indices into the version's outputs, in the order asked for.
std::vector<size_t> wanted_outputs(const InferRequest& request, const std::vector<Port>& ports) {
  std::vector<size_t> wanted;
  if (request.outputs.empty())
    for (size_t i = 0; i < ports.size(); ++i) wanted.push_back(i);
  for (const std::string& name : request.outputs)
    for (size_t i = 0; i < ports.size(); ++i)
      if (ports[i].name == name) wanted.push_back(i);
  return wanted;
}

}  // namespace

ModelVersion::Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  deadlines_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ModelVersion::Engine::finish(PendingRequest& pending, InferResponse&& response) noexcept {
  if (pending.answered.exchange(true)) return;
  VariantMetrics& m = owner_.metrics_.variants[static_cast<size_t>(pending.variant)];
  response.version = owner_.version();
  response.total_ns = owner_.clock_() - pending.request.arrival_ns;
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
void ModelVersion::Engine::count_missed(const InferRequest& request, Variant variant) noexcept {
  const int64_t allowed_us = (request.deadline_ns - request.arrival_ns) / 1000;
  const int64_t limit_us = owner_.config().timeout_ms * 1000;
  if (limit_us == 0 || allowed_us < limit_us)
    owner_.metrics_.variants[static_cast<size_t>(variant)].missed_us.add(std::max<int64_t>(allowed_us, 0));
}

void ModelVersion::Engine::answer(PendingRequest& pending, InferResponse&& response) {
  response.model = owner_.model();
  response.id = pending.request.id;
  finish(pending, std::move(response));
}

void ModelVersion::Engine::answer_error(PendingRequest& pending, ErrorCode code, std::string message,
                                        int64_t retry_after_s) noexcept {
  InferResponse response;
  response.error = code;
  response.message = std::move(message);
  response.retry_after_s = retry_after_s;
  try {
    response.model = owner_.model();
    response.id = pending.request.id;
  } catch (const std::bad_alloc&) {  // the answer goes without them
  }
  finish(pending, std::move(response));
}

void ModelVersion::Engine::answer_fault(PendingRequest& pending) noexcept {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  try {
    try {
      throw;
    } catch (const Error& error) {
      code = error.code();
      const bool values = code == ErrorCode::kInvalidModel || code == ErrorCode::kInvalidArgument;
      if (values) code = ErrorCode::kInvalidArgument;
      message = values ? fmt::format(
                             "The model can't be computed for the values of this request; see what its inputs "
                             "may hold: {}",
                             error.what())
                       : error.what();
    } catch (const std::bad_alloc&) {
      code = ErrorCode::kOutOfMemory;
      message = "There is no memory to compute the request now; try again later, or with fewer rows";
    } catch (const std::exception& error) {
      message = error.what();
    }
  } catch (const std::bad_alloc&) {  // the code alone says it
  }
  answer_error(pending, code, std::move(message));
}

void ModelVersion::Engine::answer_late(PendingRequest& pending) noexcept {
  std::string message;
  try {
    message = "The deadline passed before the answer was there; allow more time.";
  } catch (const std::bad_alloc&) {
  }
  answer_error(pending, ErrorCode::kDeadline, std::move(message));
}

int64_t ModelVersion::Engine::expected_wait_us(int64_t rows) const {
  if (time_us().empty()) return 0;
  const auto& [size, time] = *time_us().rbegin();
  const int64_t ahead = (queue_.rows() + rows + size - 1) / size + (idle_ == 0 ? 1 : 0);
  return static_cast<int64_t>(static_cast<double>(ahead) * time / static_cast<double>(instances_.size()));
}

void ModelVersion::Engine::submit(InferRequest&& request, Variant variant, Answered done, const ModelVersion* live) {
  const auto pending = std::make_shared<PendingRequest>();
  pending->request = std::move(request);
  pending->variant = variant;
  pending->done = std::move(done);
  const int64_t deadline = pending->request.deadline_ns;
  int64_t wait_us = 0;
  bool too_late = false;
  try {
    pending->rows = match_inputs(pending->request, owner_);
    if (owner_.max_rows_ > 0 && owner_.source_.plans.empty()) {
      const Padding& padding = owner_.config().padding;
      pending->length = length_of(padding, pending->request);
      pending->padded = pending->length > 0 ? padded_length(padding, pending->length) : 0;
      for (size_t i = 0; i < pending->request.inputs.size(); ++i) {
        const WireTensor& t = pending->request.inputs[i];
        const int rows_axis = owner_.batching().inputs[i];
        for (size_t axis = 0; axis < t.dims.size(); ++axis)
          if (static_cast<int>(axis) != rows_axis)
            pending->shape.push_back(pending->length > 0 && padding.inputs.contains(t.name) &&
                                             static_cast<int64_t>(axis) == padding.axis
                                         ? pending->padded
                                         : t.dims[axis]);
        if (rows_axis < 0) add_contents(t, *pending);
      }
    }
    pending->queued_ns = owner_.clock_();
    const std::lock_guard lock(mutex_);
    wait_us = expected_wait_us(pending->rows);
    too_late = deadline != 0 && pending->queued_ns + wait_us * 1000 > deadline;
    if (!too_late && queue_.push(pending)) {
      owner_.metrics_.queue_depth.store(queue_.size(), std::memory_order_relaxed);
      if (idle_ > 0) work_.notify_one();
      if (deadline != 0 && deadline < watched_until_ns_) deadlines_.notify_one();
      return;
    }
  } catch (const Error& error) {
    if (live != nullptr && takes(*live, pending->request))
      return answer_error(
          *pending, ErrorCode::kInternal,
          fmt::format("The rollout's candidate does not take what the live version takes: {}", error.what()));
    return answer_error(*pending, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return answer_fault(*pending);
  }
  if (too_late) count_missed(pending->request, variant);
  answer_error(*pending, ErrorCode::kOverloaded,
               too_late ? "The queue is too long for the request's deadline; retry later or allow more time."
                        : "The queue is full; retry later.",
               wait_us / 1'000'000 + 1);
}

BatchQueue::Batch ModelVersion::Engine::next_batch() {
  std::unique_lock lock(mutex_);
  std::erase_if(computing_, [](const PendingPtr& pending) { return pending->answered.load(); });
  while (true) {
    try {
      computing_.reserve(computing_.size() + static_cast<size_t>(queue_.size()));
      BatchQueue::Batch batch = queue_.take(stopping_ ? BatchQueue::kNever : owner_.clock_());
      if (!batch.requests.empty()) {
        owner_.metrics_.queue_depth.store(queue_.size(), std::memory_order_relaxed);
        for (const PendingPtr& pending : batch.requests)
          if (pending->request.deadline_ns != 0) computing_.push_back(pending);
        return batch;
      }
    } catch (const std::bad_alloc&) {  // nothing was taken
      work_.wait_for(lock, kMemoryPause);
      continue;
    }
    if (stopping_) return {};
    ++idle_;
    const int64_t due = queue_.due_ns();
    if (due == BatchQueue::kNever)
      work_.wait(lock);
    else
      work_.wait_for(lock, std::chrono::nanoseconds(std::max<int64_t>(due - owner_.clock_(), 0)));
    --idle_;
  }
}

void ModelVersion::Engine::work(Instance& instance) {
  while (true) {
    const BatchQueue::Batch batch = next_batch();
    if (batch.requests.empty()) return;
    auto& counter = batch.reason == CloseReason::kSize    ? owner_.metrics_.closed_by_size
                    : batch.reason == CloseReason::kDelay ? owner_.metrics_.closed_by_delay
                                                          : owner_.metrics_.closed_by_idle;
    counter.fetch_add(1, std::memory_order_relaxed);
    compute_batch(instance, batch.requests);
  }
}

void ModelVersion::Engine::watch_deadlines() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const int64_t now = owner_.clock_();
    std::vector<PendingPtr> computed, waiting;  // whose deadline has passed
    try {
      for (const PendingPtr& pending : computing_)
        if (!pending->answered && pending->request.deadline_ns <= now) computed.push_back(pending);
      waiting = queue_.take_expired(now);
    } catch (const std::bad_alloc&) {  // nothing was taken
      deadlines_.wait_for(lock, kMemoryPause);
      continue;
    }
    if (!computed.empty() || !waiting.empty()) {
      owner_.metrics_.queue_depth.store(queue_.size(), std::memory_order_relaxed);
      lock.unlock();
      for (const auto* expired : {&computed, &waiting})
        for (const PendingPtr& pending : *expired) answer_late(*pending);
      lock.lock();
      continue;
    }
    int64_t next = queue_.next_deadline_ns();
    for (const PendingPtr& pending : computing_)
      if (!pending->answered) next = std::min(next, pending->request.deadline_ns);
    watched_until_ns_ = next;
    if (next == BatchQueue::kNever)
      deadlines_.wait(lock);
    else
      deadlines_.wait_for(lock, std::chrono::nanoseconds(next - now));
  }
}

void ModelVersion::Engine::compute_batch(Instance& instance, Requests requests) noexcept {
  try {
    return compute(instance, requests);
  } catch (...) {
    if (requests.size() == 1) return answer_fault(*requests[0]);
  }
  for (const PendingPtr& pending : requests) {
    if (pending->answered) continue;
    try {
      compute(instance, {&pending, 1});
    } catch (...) {
      answer_fault(*pending);
    }
  }
}

void ModelVersion::Engine::compute(Instance& instance, Requests requests) {
  const ScopedRunLimits limits(limits_of(requests));
  owner_.source_.plans.empty() ? compute_by_program(instance, requests) : compute_together(instance, requests);
}

void ModelVersion::Engine::compute_together(Instance& instance, Requests requests) {
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
  for (const PendingPtr& pending : requests) {
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

  const int64_t started = owner_.clock_();
  std::vector<const void*> in(inputs);
  std::vector<void*> out(outputs);
  int64_t at = 0;
  size_t next = 0;  // first request that is not answered yet
  for (const int64_t size : cover_rows(rows, time_us())) {
    const int64_t count = std::min(size, rows - at);
    const PendingRequest& first = *requests[next];
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
        const int64_t end = std::min(parts[r].first + requests[r]->rows, at + count);
        body(r, static_cast<size_t>(begin - parts[r].first), static_cast<size_t>(begin - at),
             static_cast<size_t>(end - begin));
      }
    };
    if (!direct) {
      each_piece([&](size_t r, size_t from, size_t to, size_t n) {
        for (size_t i = 0; i < inputs; ++i)
          std::memcpy(instance.inputs[i].get() + to * in_bytes[i],
                      requests[r]->request.inputs[i].bytes.data() + from * in_bytes[i], n * in_bytes[i]);
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
    const int64_t now = owner_.clock_();
    for (; next < parts.size() && parts[next].first + requests[next]->rows <= at; ++next) {
      PendingRequest& pending = *requests[next];
      InferResponse response;
      response.queue_ns = started - pending.queued_ns;
      response.compute_ns = now - started;
      response.batch_rows = rows;
      response.owner = parts[next].block;
      for (const size_t i : wanted_outputs(pending.request, owner_.outputs_)) {
        const Port& port = owner_.outputs_[i];
        WireTensor& t = response.outputs.emplace_back(WireTensor{port.name, port.dtype, port.dims, {}});
        if (owner_.max_rows_ > 0) t.dims.front() = pending.rows;
        t.bytes = {parts[next].out[i], out_bytes[i] * static_cast<size_t>(pending.rows)};
      }
      answer(pending, std::move(response));
    }
  }
  owner_.metrics_.compute_ns.fetch_add(owner_.clock_() - started, std::memory_order_relaxed);
}

/// Until the last of them is late, at most for so long: a loop may turn as often as a request says.
RunLimits ModelVersion::Engine::limits_of(Requests requests) const {
  const int64_t longest_ns = owner_.config().max_run_seconds * 1'000'000'000;
  int64_t left_ns = 0;
  for (const PendingPtr& pending : requests)
    left_ns = std::max(left_ns,
                       pending->request.deadline_ns == 0 ? longest_ns : pending->request.deadline_ns - owner_.clock_());
  const bool any_shapes = owner_.source_.plans.empty();
  return {.value_bytes = any_shapes ? static_cast<uint64_t>(owner_.config().max_value_mib) << 20 : UINT64_MAX,
          .deadline_ns = now_ns() + std::clamp<int64_t>(left_ns, 0, longest_ns)};
}

// Requests of one shape are stacked, and filled up to one of few sizes, so that few shapes are prepared.
void ModelVersion::Engine::compute_by_program(Instance& instance, Requests requests) {
  const int64_t started = owner_.clock_();
  int64_t rows = 0;
  for (const PendingPtr& pending : requests) rows += pending->rows;
  const bool stacks = owner_.max_rows_ > 0;
  const int64_t size = stacks ? padded_rows(rows, owner_.max_rows_) : rows;
  const Padding& padding = owner_.config().padding;
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < owner_.inputs_.size(); ++i) {
    std::vector<Tensor> parts;
    for (const PendingPtr& pending : requests) {
      parts.push_back(to_tensor(pending->request.inputs[i]));
      const auto fill = padding.inputs.find(owner_.inputs_[i].name);
      if (fill != padding.inputs.end() && pending->padded != pending->length)
        parts.back() = resized(parts.back(), padding.axis, pending->padded, fill->second);
    }
    const int axis = stacks ? owner_.batching().inputs[i] : -1;
    if (axis < 0) {
      inputs.push_back(std::move(parts[0]));
      continue;
    }
    const auto along = static_cast<size_t>(axis);
    if (size > rows) parts.push_back(rows_of(parts.back(), parts.back().dims()[along] - 1, size - rows, along));
    inputs.push_back(stack_rows(parts, along));
  }
  std::vector<Tensor> outputs = instance.program->run(inputs);
  owner_.metrics_.executions.fetch_add(1, std::memory_order_relaxed);
  owner_.metrics_.batch_rows.add(rows);
  const int64_t computed_ns = owner_.clock_() - started;
  int64_t at = 0;
  for (const PendingPtr& pending : requests) {
    InferResponse response;
    const auto results = std::make_shared<std::vector<std::vector<std::byte>>>();
    const std::vector<size_t> wanted = wanted_outputs(pending->request, owner_.outputs_);
    results->reserve(wanted.size());
    for (const size_t i : wanted) {
      Tensor part = outputs[i];
      if (const int axis = stacks ? owner_.batching().outputs[i] : -1; axis >= 0)
        part = rows_of(part, at, pending->rows, static_cast<size_t>(axis));
      const auto cut = padding.outputs.find(owner_.outputs_[i].name);
      if (cut != padding.outputs.end() && pending->padded != pending->length)
        part = resized(part, cut->second, pending->length);
      const auto& bytes = results->emplace_back(wire_bytes(part));
      response.outputs.push_back({owner_.outputs_[i].name, part.dtype(), part.dims(), bytes});
    }
    response.owner = results;
    response.queue_ns = started - pending->queued_ns;
    response.compute_ns = computed_ns;
    response.batch_rows = rows;
    answer(*pending, std::move(response));
    at += pending->rows;
  }
  owner_.metrics_.compute_ns.fetch_add(owner_.clock_() - started, std::memory_order_relaxed);
}

}  // namespace slipway
