#pragma once
#include <vector>

#include "data/feed.h"
#include "quantize/qat/qat.h"
#include "train/qat_model.h"

namespace slipway {

/// The trained model evaluated in integers with libtorch, in the engine's order of requantisation: exact sums of codes,
/// then float(sum) · multiplier, residual, rounding, zero point, clamp.
class Simulation {
 public:
  Simulation(const QatModel& model, const QuantizeOptions& options);
  ~Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  /// The first output, float32, for the inputs in the model's order. `codes`, where given, receives the integers (zero
  /// point included, int32) of every quantised value, by its name in the float graph.
  at::Tensor run(const std::vector<at::Tensor>& inputs, std::map<std::string, at::Tensor>* codes = nullptr);
  /// How far one code moves a score at most: the output's scale where it is quantised, else one code of the last linear
  /// operator's input times its largest weight.
  double output_step() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Sets the simulation against the engine's execution of `executed`: predictions on the whole test split
/// (`executed_classes`: the engine's), integer tensors on options.compare_samples of it. Shows progress.
QatAgreement compare_with_execution(const QatModel& model, const Graph& executed, const Feed& feed,
                                    const std::vector<int64_t>& executed_classes, const QatOptions& options);

}  // namespace slipway
