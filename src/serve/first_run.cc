// What is found out about a version before it takes requests: does it run at all, how long does each plan take, are its
// rows independent. This is where a model's code runs for the first time.
#include "serve/first_run.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/session.h"
#include "serve/batching.h"
#include "serve/padding.h"

namespace slipway {
namespace {

constexpr int64_t kTimingBudgetNs = 50'000'000;
constexpr double kBatchMustGain = 0.97;  ///< time a row, over that of the next smaller plan: else the plan is dropped

double best_time_us(const std::shared_ptr<const Plan>& plan) {
  RunBuffers buffers(*plan);
  Session session(plan);
  session.run(buffers.in, buffers.out);
  double best_us = 0;
  const int64_t begin = now_ns();
  for (int run = 0; run < 10 && (run < 2 || now_ns() - begin < kTimingBudgetNs); ++run) {
    const int64_t start = now_ns();
    session.run(buffers.in, buffers.out);
    const double us = static_cast<double>(now_ns() - start) / 1000;
    best_us = run == 0 ? us : std::min(best_us, us);
  }
  return best_us;
}

}  // namespace

RunBuffers::RunBuffers(const Plan& plan) {
  for (const auto* ports : {&plan.inputs(), &plan.outputs()})
    for (const PortInfo& port : *ports) {
      const size_t size = bytes_of(port.dtype, element_count(port.dims));
      std::byte* p = bytes.emplace_back(allocate_aligned(size)).get();
      std::memset(p, 0, size);
      if (ports == &plan.inputs())
        in.push_back(p);
      else
        out.push_back(p);
    }
}

FirstRun make_first_run(VersionSource& source) {
  FirstRun first;
  Preprocess how;
  if (load_preprocess(source.graph, how, first.labels)) first.preprocess = how;
  load_input_recipes(source.graph, first.inputs, first.labels);
  first.batching = batching_of(source.graph, source.config.dims);
  if (first.batching.proven && !source.plans.empty())
    if (std::string why = batching_contradiction(source.plans); !why.empty()) {
      log_warning("{}/{}: its rows are proven independent, yet {}", source.model, source.version, why);
      first.batching = {false, std::move(why)};
      source.plans.clear();
    }
  if (source.plans.empty()) {
    if (source.program == nullptr) source.program = make_program(source);
    run_once(*source.program, source.graph);
    if (first.batching.proven)
      if (std::string why = batching_contradiction(*source.program, source.graph, first.batching); !why.empty()) {
        log_warning("{}/{}: its rows are proven independent, yet {}", source.model, source.version, why);
        first.batching = {false, std::move(why)};
      }
  }
  if (!source.config.padding.sizes.empty()) {
    if (!first.batching.along_first() || source.program == nullptr)
      fail(ErrorCode::kInvalidArgument,
           "`pad` in config.yaml is for models with a free length whose requests are batched; leave it out: {}",
           !first.batching.proven      ? first.batching.reason
           : source.program == nullptr ? "its shapes are fixed"
                                       : "its rows do not lie along the first axes");
    require_padding_changes_nothing(*source.program, source.graph, source.config.padding, source.max_variation);
  }
  for (auto it = source.plans.begin(); it != source.plans.end();) {
    const auto& [rows, plan] = *it;
    const double us = best_time_us(plan);
    const bool pays = first.time_us.empty() ||
                      us / static_cast<double>(rows) < kBatchMustGain * first.time_us.rbegin()->second /
                                                           static_cast<double>(first.time_us.rbegin()->first);
    if (pays) first.time_us[rows] = us;
    it = pays ? std::next(it) : source.plans.erase(it);
  }
  return first;
}

}  // namespace slipway
