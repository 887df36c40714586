// How a version becomes warm: its ports, its first run, its instances started.
#include "serve/model_version.h"

#include <algorithm>
#include <atomic>

#include "base/log.h"
#include "base/memory.h"
#include "serve/first_run.h"
#include "serve/version_engine.h"

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

}  // namespace

const char* to_string(Proof proof) {
  constexpr const char* names[] = {"passed", "failed", "missing", "mismatched"};
  return names[static_cast<int>(proof)];
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

ModelVersion::ModelVersion(VersionSource source, std::function<int64_t()> clock)
    : generation_(next_generation()), clock_(std::move(clock)), source_(std::move(source)) {
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
  engine_->submit(std::move(request), variant, std::move(done), live);
}

}  // namespace slipway
