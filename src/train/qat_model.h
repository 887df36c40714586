#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quantize/ptq/placement.h"
#include "train/trainable_graph.h"
#include "train/training_graph.h"

namespace slipway {

/// A graph whose weights and quantisers are trained. Every quantised value and weight goes through a fake quantiser of
/// the grid, and at the place, that insert_quantizers writes out.
class QatModel {
 public:
  /// `start` comes from choose_quantizers. Fails with kUnsupported at an operator without a gradient.
  QatModel(const TrainingGraph& prepared, const Quantizers& start, const QuantizeOptions& options);
  ~QatModel();
  QatModel(const QatModel&) = delete;
  QatModel& operator=(const QatModel&) = delete;

  /// The model's first output, [samples, scores, …], for its inputs in their order; a Softmax at its end is left out.
  at::Tensor forward(const std::vector<at::Tensor>& inputs);
  /// The same without any quantiser: the float model that is trained underneath.
  at::Tensor forward_float(const std::vector<at::Tensor>& inputs);

  std::vector<at::Tensor> weights() const;  ///< convolution and matrix weights
  std::vector<at::Tensor> offsets() const;  ///< biases, BatchNormalization's and other vectors: no weight decay
  std::vector<at::Tensor> scales() const;   ///< of the quantisers
  /// Keeps scales positive; after every step of the optimiser.
  void clamp_scales();
  bool gives_probabilities() const;  ///< the graph's own output is a Softmax's

  /// Everything that training changes, by name: for snapshots and checkpoints. Tensors share memory with the model.
  std::map<std::string, at::Tensor> state() const;

  /// The float graph with the trained weights, BatchNormalization folded, and its quantisers, for insert_quantizers.
  Graph trained_graph() const;
  Quantizers quantizers() const;
  const Placement& placement() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
