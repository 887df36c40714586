#pragma once
#include <map>
#include <string>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// An input or output of a model, free dimensions included.
struct ModelPort {
  std::string name;
  DType dtype;
  Shape shape;
};

/// What a model shows to who runs it.
struct ModelPorts {
  std::vector<ModelPort> inputs, outputs;
  std::map<std::string, std::string, std::less<>> metadata;  ///< ONNX metadata_props
};

ModelPorts ports_of(const Graph& graph);

}  // namespace slipway
