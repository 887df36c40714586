#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/graph.h"

namespace slipway {

class WeightPool;

struct BuildOptions {
  int64_t batch = 1;                         ///< size of every free first dimension of the inputs
  std::map<std::string, int64_t> dims = {};  ///< other free dimensions by symbol, or by "input.axis"
  int threads = 1;
  bool tune = true;               ///< time the candidates; without it the likely fastest are taken
  std::string timing_cache = {};  ///< file of timings, read and extended; empty: none
  bool optimize = true;           ///< run the graph passes first
  bool quiet = true;              ///< no progress on standard error
  /// Set: nothing is timed, and chance chooses among the accepted candidates, the reference among them, by this seed.
  /// So tests reach every candidate, in every neighbourhood.
  std::optional<uint64_t> choice_seed = {};
  std::shared_ptr<WeightPool> weights = {};  ///< where plans keep equal packed weights once; null: each has its own
};

struct PortInfo {
  std::string name;
  DType dtype;
  Dims dims;
};

/// One candidate implementation of a step, as `inspect --why` shows it.
struct CandidateInfo {
  std::string tactic;    ///< "onednn:jit:avx2 nChw8c", "qconv_maddubs_g4_avx2", "reference", …
  std::string layouts;   ///< "nhwc -> nhwc"
  double time_us = 0;    ///< measured; 0 when not timed
  std::string rejected;  ///< the reason; empty when accepted
  bool chosen = false;
};

/// One step of a Plan: a kernel call, or a change of layout.
struct StepInfo {
  std::string op;                    ///< operator, with its domain when internal
  std::string name;                  ///< name of the value it makes
  std::vector<std::string> origins;  ///< nodes of the original model that it stands for
  std::string tactic;
  std::string layouts;
  double time_us = 0;
  int guards = 0;         ///< inputs that each run proves free of NaN and infinity before this step
  bool faithful = false;  ///< no such proof is possible: always computed in the slower, faithful way
  std::vector<CandidateInfo> candidates;
};

struct MemoryInfo {
  uint64_t arena_bytes = 0;        ///< activations, after reuse
  uint64_t lower_bound_bytes = 0;  ///< the most bytes of activations alive at once
  uint64_t unshared_bytes = 0;     ///< activations without any reuse
  uint64_t scratch_bytes = 0;      ///< the largest step's scratchpad
  uint64_t weight_bytes = 0;       ///< prepacked weights
};

/// The immutable result of building a Graph for this machine: chosen tactics, prepacked weights, buffer offsets, and
/// the CPU features, threads and shapes it was built for. Shared by any number of Sessions.
class Plan {
 public:
  /// Binds the shapes, runs the passes, times the candidates and packs the weights. Fails with kInvalidArgument when a
  /// dimension stays free, kUnsupported at an operator nobody implements.
  static std::shared_ptr<const Plan> build(const Graph& graph, const BuildOptions& options);
  /// The same of a graph whose shapes are all known: nothing is bound, no pass is run, and it can't be saved.
  static std::shared_ptr<const Plan> build_bound(Graph graph, const BuildOptions& options);
  /// Reads a saved plan, weights that the pool has already from there; what becomes of the file afterwards is no
  /// matter. Fails with kInvalidModel when any bit of the file is damaged or it is no plan, kUnsupported when this CPU
  /// or this oneDNN lacks what it was built for (it can be rebuilt: see graph_of()), or it holds more than one plan
  /// (see open_program()).
  static std::shared_ptr<const Plan> open(const std::string& path, std::shared_ptr<WeightPool> weights = nullptr);
  /// The original Graph that a saved plan carries, for rebuilding.
  static Graph graph_of(const std::string& path);
  static bool is_plan_file(const std::string& path);
  /// Fails with kIo; kInvalidArgument for a plan that was opened, whose file can be copied instead, or that is
  /// a part of a program.
  void save(const std::string& path) const;

  const std::vector<PortInfo>& inputs() const;
  const std::vector<PortInfo>& outputs() const;
  std::vector<StepInfo> steps() const;
  MemoryInfo memory() const;
  int threads() const;
  std::string cpu() const;             ///< features it needs
  std::string choices_digest() const;  ///< SHA-256 over tactics, layouts, shapes and threads
  std::string precision() const;       ///< "fp32", "int8" or "mixed" by the weighted operators' types

  struct Impl;
  explicit Plan(std::unique_ptr<Impl> impl);
  ~Plan();
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Packed weights of several, those that they share once.
uint64_t weight_bytes_of(std::span<const std::shared_ptr<const Plan>> plans);
/// As Plan::precision(), of several.
std::string precision_of(std::span<const std::shared_ptr<const Plan>> plans);

}  // namespace slipway
