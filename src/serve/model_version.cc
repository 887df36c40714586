// How a version becomes warm: its ports, whether its requests are batched, its plans timed, its instances started.
#include "serve/model_version.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/batching.h"
#include "serve/version_engine.h"

namespace slipway {
namespace {

constexpr int64_t kTimingBudgetNs = 50'000'000;
constexpr double kBatchMustGain = 0.97;  ///< time a row, over that of the next smaller plan: else the plan is dropped

// `last` is the plan for the most rows: what differs from `bound`, that for the fewest, follows the rows.
std::vector<Port> read_ports(const Graph& graph, const std::vector<ValueId>& ids, const std::vector<PortInfo>* bound,
                             const std::vector<PortInfo>* last, bool batches) {
  std::vector<Port> ports;
  for (size_t i = 0; i < ids.size(); ++i) {
    const Value& v = graph.value(ids[i]);
    Port port{v.name, v.dtype, {}};
    if (bound != nullptr) {
      port.dims = (*bound)[i].dims;
      for (size_t axis = 0; axis < port.dims.size(); ++axis)
        if ((batches && axis == 0) || port.dims[axis] != (*last)[i].dims[axis]) port.dims[axis] = -1;
    } else {
      for (size_t axis = 0; axis < v.shape.rank(); ++axis)
        port.dims.push_back(v.shape[axis].is_known() ? v.shape[axis].value() : -1);
    }
    ports.push_back(std::move(port));
  }
  return ports;
}

}  // namespace

const char* to_string(Proof proof) {
  constexpr const char* names[] = {"passed", "failed", "missing", "mismatched"};
  return names[static_cast<int>(proof)];
}

void ModelVersion::Engine::time_plans() {
  auto& plans = owner_.source_.plans;
  const std::vector<PortInfo>*inputs = nullptr, *outputs = nullptr;
  for (auto it = plans.begin(); it != plans.end();) {
    const auto& [rows, plan] = *it;
    inputs = &plan->inputs();
    outputs = &plan->outputs();
    std::vector<AlignedBytes> buffers;
    std::vector<const void*> in;
    std::vector<void*> out;
    for (const auto* ports : {inputs, outputs})
      for (const PortInfo& port : *ports) {
        const size_t bytes = bytes_of(port.dtype, element_count(port.dims));
        std::byte* p = buffers.emplace_back(allocate_aligned(bytes)).get();
        std::memset(p, 0, bytes);
        ports == inputs ? in.push_back(p) : out.push_back(p);
      }
    Session session(plan);
    session.run(in, out);
    double best_us = 0;
    const int64_t begin = now_ns();
    for (int run = 0; run < 10 && (run < 2 || now_ns() - begin < kTimingBudgetNs); ++run) {
      const int64_t start = now_ns();
      session.run(in, out);
      const double us = static_cast<double>(now_ns() - start) / 1000;
      best_us = run == 0 ? us : std::min(best_us, us);
    }
    const bool pays = time_us_.empty() || !owner_.batching_.proven ||
                      best_us / static_cast<double>(rows) <
                          kBatchMustGain * time_us_.rbegin()->second / static_cast<double>(time_us_.rbegin()->first);
    if (pays) time_us_[rows] = best_us;
    it = pays ? std::next(it) : plans.erase(it);
  }
}

void ModelVersion::Engine::start() {
  const auto& plans = owner_.source_.plans;
  instances_.resize(static_cast<size_t>(std::max(owner_.config().instances, 1)));
  for (Instance& instance : instances_) {
    for (const auto& [rows, plan] : plans) instance.sessions.emplace(rows, Session(plan));
    if (plans.size() < 2 || !owner_.batching_.proven) continue;
    const auto& [rows, plan] = *plans.rbegin();
    for (const PortInfo& port : plan->inputs())
      instance.inputs.push_back(allocate_aligned(bytes_of(port.dtype, element_count(port.dims))));
    for (const PortInfo& port : plan->outputs())
      instance.outputs.push_back(allocate_aligned(bytes_of(port.dtype, element_count(port.dims))));
  }
  for (Instance& instance : instances_) threads_.emplace_back([this, &instance] { work(instance); });
  threads_.emplace_back([this] { watch_deadlines(); });
}

ModelVersion::ModelVersion(VersionSource source) : source_(std::move(source)) {
  const Graph& graph = source_.graph;
  const Plan* plan = source_.plans.empty() ? nullptr : source_.plans.begin()->second.get();
  const Plan* last = plan == nullptr ? nullptr : source_.plans.rbegin()->second.get();
  batching_ = plan == nullptr ? RowIndependence{false, "it has strings, which only the reference computes"}
                              : batching_of(graph, source_.config.dims);
  if (batching_.proven)
    if (std::string why = batching_contradiction(source_.plans); !why.empty()) {
      log_warning("{}/{}: its rows are proven independent, yet {}", source_.model, source_.version, why);
      batching_ = {false, std::move(why)};
    }
  log_info("{}/{}: {}", source_.model, source_.version,
           batching_.proven ? "rows are independent, requests are batched"
                            : "requests are not batched: " + batching_.reason);
  const bool batches = batching_.proven;
  inputs_ = read_ports(graph, graph.inputs(), plan != nullptr ? &plan->inputs() : nullptr,
                       last != nullptr ? &last->inputs() : nullptr, batches);
  outputs_ = read_ports(graph, graph.outputs(), plan != nullptr ? &plan->outputs() : nullptr,
                        last != nullptr ? &last->outputs() : nullptr, batches);
  max_rows_ = batches ? std::max<int64_t>(source_.config.batching.max_rows, 1) : 0;
  if (!batches && plan != nullptr && takes_any_rows(graph, source_.config.dims))
    for (const auto& [rows, of_rows] : source_.plans) request_rows_.push_back(rows);
  Preprocess how;
  if (load_preprocess(graph, how, labels_))
    preprocess_ = how;
  else if (source_.config.preprocess)
    preprocess_ = source_.config.preprocess;
  if (labels_.empty()) labels_ = source_.config.labels;

  BatchingOptions batching = source_.config.batching;
  engine_ = std::make_unique<Engine>(*this, batching);
  if (plan != nullptr) {
    engine_->time_plans();
    source_.graph = Graph();  // the plans hold what is needed of it
  }
  batching.max_rows = batches ? source_.plans.rbegin()->first : 1;
  engine_->queue_ = BatchQueue(batching);
  engine_->start();
}

ModelVersion::~ModelVersion() = default;

void ModelVersion::submit(InferRequest&& request, Variant variant, Answered done) {
  engine_->submit(std::move(request), variant, std::move(done));
}

uint64_t ModelVersion::memory_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [rows, plan] : source_.plans) {
    const MemoryInfo m = plan->memory();
    bytes += m.weight_bytes + (m.arena_bytes + m.scratch_bytes) * static_cast<uint64_t>(source_.config.instances);
  }
  return bytes;
}

}  // namespace slipway
