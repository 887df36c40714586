#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/input_recipe.h"
#include "model/graph.h"

namespace slipway {

/// What a model says of one of its inputs.
struct FeedPort {
  std::string name;
  DType dtype;
  Shape shape;
};
std::vector<FeedPort> input_ports(const Graph& model);

/// Sizes of a request's dimensions beside the batch, as bind_batch() takes them.
std::map<std::string, int64_t> dims_of_request(const Graph& model, const std::vector<Tensor>& request);

/// Arrays become the model's type where that is a wider or narrower one of the same kind and loses no integer; others
/// stay.
Tensor to_model_dtype(Tensor value, DType wanted);

/// A data set's samples as requests to a model: its inputs in its order, each sample's tensor with an axis of 1 in
/// front where the model's input has one axis more, as it is where it has as many. Inputs are matched by name, or where
/// both are alone. Arrays whose type the data file leaves open become the model's where that is a wider or narrower one
/// of the same kind and loses no integer.
class Feed {
 public:
  /// Fails with kInvalidArgument where the data describe other inputs than the model has, naming them.
  Feed(Dataset data, std::vector<FeedPort> ports);
  Feed(Dataset data, const Graph& model) : Feed(std::move(data), input_ports(model)) {}

  /// Fails with kInvalidArgument where the sample's type or shape is not the model's, or sizes that the model says are
  /// equal differ, else as Dataset::input().
  std::vector<Tensor> request(Split split, int64_t index) const;
  std::vector<std::vector<Tensor>> requests(Split split, std::span<const int64_t> indices, int threads) const;
  /// The same of a sample whose tensors are `changed`, by Dataset's order of inputs.
  std::vector<Tensor> request_of(const std::vector<Tensor>& changed, Split split, int64_t index) const;

  const Dataset& data() const { return data_; }
  const std::vector<FeedPort>& ports() const { return ports_; }
  /// Dataset's number of the input that fills a port; nothing for a constant.
  std::optional<size_t> source_of(size_t port) const { return sources_[port]; }

 private:
  Tensor fitted(size_t port, Tensor value, const std::string& sample) const;
  Tensor constant(size_t port, const std::vector<Tensor>& sample) const;
  void require_equal_sizes(const std::vector<Tensor>& request, const std::string& sample) const;

  Dataset data_;
  std::vector<FeedPort> ports_;
  std::vector<std::optional<size_t>> sources_;  ///< by port
};

/// The inputs that a data file describes, as a model with several carries them.
std::vector<InputRecipe> recipes_of(const Dataset& data);

/// How the data file contradicts the pre-processing that the model carries; empty when it does not, or there is none.
/// Fails with kInvalidModel where that is damaged.
std::string carried_difference(const Dataset& data, const Graph& model);

/// Fails with kInvalidArgument unless the first sample of each split fits the model (Feed) and, where the scores of its
/// first output are as many as it says, labels are below that and the names of the classes, where given, are as many.
/// The training split only with `training`.
void require_fitting(const Dataset& data, const Graph& model, bool training = false);

}  // namespace slipway
