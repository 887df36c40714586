// How a version becomes warm: its ports, its first run, its instances started.
#include "serve/model_version.h"

#include <algorithm>
#include <atomic>

#include "base/log.h"
#include "base/memory.h"
#include "model/infer.h"
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
    if (plans.empty()) instance.program = owner_.source_.program->open();
    if (plans.size() < 2) continue;
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
  if (source_.plans.empty())
    log_info("{}/{}: shapes are prepared as requests bring them; `dims` in config.yaml fixes free ones beforehand",
             source_.model, source_.version);
  const bool batches = first.batching.proven;
  if (source_.plans.empty()) {
    if (source_.program == nullptr) source_.program = make_program(source_);
    Graph settled = source_.graph;
    if (!source_.config.dims.empty()) bind_dims(settled, source_.config.dims);
    inputs_ = ports_of(settled, settled.inputs());
    outputs_ = ports_of(settled, settled.outputs());
    source_.graph = Graph();  // the program holds it
  } else {
    const Plan &fewest = *source_.plans.begin()->second, &most = *source_.plans.rbegin()->second;
    inputs_ = ports_of(fewest.inputs(), most.inputs(), batches);
    outputs_ = ports_of(fewest.outputs(), most.outputs(), batches);
    source_.graph = Graph();  // the plans hold what is needed of it
  }
  max_rows_ = batches ? std::max<int64_t>(source_.config.batching.max_rows, 1) : 0;
  preprocess_ = first.preprocess ? first.preprocess : source_.config.preprocess;
  labels_ = first.labels.empty() ? source_.config.labels : first.labels;

  BatchingOptions batching = source_.config.batching;
  if (!batches) batching.max_rows = 1;
  if (batches && !source_.plans.empty()) batching.max_rows = source_.plans.rbegin()->first;
  engine_ = std::make_unique<Engine>(*this, batching);
  engine_->start();
}

ModelVersion::~ModelVersion() = default;

std::shared_ptr<const Program> make_program(const VersionSource& source, bool tune) {
  Graph graph = source.graph;
  if (!source.config.dims.empty()) bind_dims(graph, source.config.dims);
  return backend_named("slipway").make(graph, {.threads = source.config.threads,
                                               .tune = tune,
                                               .timing_cache = source.timing_cache,
                                               .max_shapes = source.config.max_shapes});
}

uint64_t memory_bytes(const VersionSource& source) {
  uint64_t bytes = 0;
  if (source.plans.empty() && source.program != nullptr) {
    const ProgramInfo info = source.program->info();
    bytes += info.weight_bytes + info.session_bytes * static_cast<uint64_t>(source.config.instances);
  }
  std::vector<std::shared_ptr<const Plan>> plans;
  for (const auto& [rows, plan] : source.plans) {
    const MemoryInfo m = plan->memory();
    bytes += (m.arena_bytes + m.scratch_bytes) * static_cast<uint64_t>(source.config.instances);
    plans.push_back(plan);
  }
  return bytes + weight_bytes_of(plans);
}

void ModelVersion::submit(InferRequest&& request, Variant variant, Answered done, const ModelVersion* live) {
  engine_->submit(std::move(request), variant, std::move(done), live);
}

}  // namespace slipway
