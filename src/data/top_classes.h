#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/tensor.h"

namespace slipway {

struct ClassConfidence {
  int64_t index = 0;
  std::string label;      ///< empty when the model carries no labels
  double confidence = 0;  ///< 0 to 1
};

/// Which of a model's outputs for `samples` samples holds one score a class: the first of floats of the form
/// [samples, classes] with two classes or more; of a model with one output only, axes of size 1 may follow. None: it is
/// no classifier.
std::optional<size_t> scores_output(std::span<const Tensor> outputs, int64_t samples);

/// A classifier's scores as probabilities: left alone when they already are (none negative, sum within 1 % of 1),
/// softmax otherwise.
std::vector<double> as_probabilities(std::vector<double> scores);

/// The `count` most probable classes of one sample's scores, the most probable first, the lower index first of equals.
std::vector<ClassConfidence> top_classes(const Tensor& scores, const std::vector<std::string>& labels, int64_t count);

}  // namespace slipway
