#pragma once
// The inside of a Plan; included by plan*.cc, program*.cc and session.cc alone.
#include <memory>
#include <string>
#include <vector>

#include "engine/lower/lower.h"
#include "engine/plan.h"
#include "engine/ports.h"

namespace slipway {

/// Where a step's operand lies while it runs.
struct Place {
  enum Kind : int { kNone, kArena, kInput, kOutput } kind = kNone;
  uint64_t at = 0;  ///< byte offset in the arena, or index of the input or output
};

struct PlanStep {
  Graph graph;  ///< the node alone (lower/step_graph.h)
  Candidate candidate;
  std::vector<bool> constant_inputs;
  std::vector<Place> inputs, outputs;
  std::vector<BlobView> blobs;
  std::unique_ptr<Kernel> kernel;
  std::vector<int> guards;  ///< float inputs to be measured before it runs (session.cc)
  bool faithful = false;    ///< always to be run so
  double time_us = 0;
  std::vector<CandidateInfo> candidates;
};

struct Plan::Impl {
  std::vector<PortInfo> inputs, outputs;
  std::vector<PlanStep> steps;
  int threads = 1;
  std::string cpu;
  std::string onednn;
  std::string file_digest;  ///< of an opened plan: over the header and the digests of model and weights
  MemoryInfo memory;
  ModelPorts ports;              ///< of the model that it was made from; none in a part of a program
  std::vector<std::byte> model;  ///< the original model as ONNX, for rebuilding; empty in an opened plan
  std::vector<Blob> owned;       ///< packed weights

  /// Creates every kernel from its step's graph, candidate and blobs; fails as Tactic::create does.
  void create_kernels();
};

}  // namespace slipway
