#pragma once
#include <string>
#include <vector>

#include "data/data_file.h"
#include "model/graph.h"

namespace slipway {

/// What fills an input of a model with several, as the data file says and the ONNX file's metadata carry it.
struct InputRecipe {
  enum class Kind { kPicture, kArray, kConstant };
  Kind kind = Kind::kArray;
  Preprocess preprocess = {};   ///< with the input's name; not of constants
  ConstantInput constant = {};  ///< of constants
  const std::string& input() const { return kind == Kind::kConstant ? constant.name : preprocess.input; }
};

/// JSON, a list, and back. Fails with kInvalidModel, `name` saying where it came from.
std::string input_recipes_json(const std::vector<InputRecipe>& recipes);
std::vector<InputRecipe> parse_input_recipes(const std::string& text, const std::string& name);

/// Writes both into the graph's metadata (keys "slipway.inputs" and "slipway.labels").
void store_input_recipes(Graph& graph, const std::vector<InputRecipe>& recipes, const std::vector<std::string>& labels);
/// Reads them back; false when the model carries none. Fails with kInvalidModel when damaged.
bool load_input_recipes(const Graph& graph, std::vector<InputRecipe>& recipes, std::vector<std::string>& labels);

/// How the data file contradicts what the model carries, e.g. "mean of 'photo' is [0.5] in …"; empty when they mean the
/// same or one of them does not know an input.
std::string input_recipes_difference(const std::vector<InputRecipe>& data_file, const std::vector<InputRecipe>& model);

}  // namespace slipway
