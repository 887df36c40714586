#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/graph.h"

namespace slipway {

struct PassContext {
  int64_t max_folded_bytes = int64_t{64} << 20;  ///< a folded constant may be no larger
  bool standard_onnx = false;                    ///< only operators of the model's own opset; run_passes() sets it
};

/// One row of THE list. A pass returns true when it changed the graph; it is deterministic and idempotent.
struct Pass {
  std::string_view name;
  bool (*run)(Graph&, const PassContext&);
  bool standard_onnx;  ///< its results use ONNX operators only (the others introduce the fused domain)
  std::string_view summary;
};
std::span<const Pass> all_passes();

struct PassReport {
  std::string name;
  bool changed = false;
  size_t nodes_before = 0, nodes_after = 0;
  double time_ms = 0;
};

struct PipelineOptions {
  bool standard_onnx = false;              ///< only passes whose results save as ONNX
  std::vector<std::string> disabled = {};  ///< by name; an unknown name fails with kInvalidArgument
  int stop_after = -1;                     ///< run only the first N passes that change something (bisection); −1: all
  std::string dump_folder = {};            ///< text form after every pass that changed something
  PassContext context = {};
};

/// Runs the list to a fixed point (bounded), inferring shapes and verifying the graph after each change.
std::vector<PassReport> run_passes(Graph& graph, const PipelineOptions& options = {});

}  // namespace slipway
