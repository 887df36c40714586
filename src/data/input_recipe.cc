// The inputs of a model with several, as JSON in its metadata: each its name, its kind, and the pre-processing of a
// picture or an array, or the value of a constant.
#include "data/input_recipe.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;
using Kind = InputRecipe::Kind;

constexpr const char* kInputsKey = "slipway.inputs";
constexpr std::array<const char*, 3> kKinds = {"picture", "array", "constant"};
constexpr size_t kMaxRecipes = 256, kMaxConstantRank = 8;

}  // namespace

std::string input_recipes_json(const std::vector<InputRecipe>& recipes) {
  Json list = Json::array();
  for (const InputRecipe& recipe : recipes) {
    Json one = {{"input", recipe.input()}, {"kind", kKinds[static_cast<size_t>(recipe.kind)]}};
    if (recipe.kind == Kind::kConstant)
      one.update({{"value", recipe.constant.value}, {"dims", recipe.constant.dims}, {"like", recipe.constant.like}});
    else
      one["preprocess"] = Json::parse(preprocess_json(recipe.preprocess));
    list.push_back(std::move(one));
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<InputRecipe> parse_input_recipes(const std::string& text, const std::string& name) {
  std::vector<InputRecipe> recipes;
  try {
    const Json list = Json::parse(text);
    if (!list.is_array() || list.size() > kMaxRecipes)
      fail(ErrorCode::kInvalidModel, "The inputs in the metadata are no list of at most {}: {}", kMaxRecipes, name);
    for (const Json& one : list) {
      const auto kind = std::find(kKinds.begin(), kKinds.end(), one.at("kind").get<std::string>());
      if (kind == kKinds.end())
        fail(ErrorCode::kInvalidModel, "An input in the metadata is neither picture, array nor constant: {}", name);
      InputRecipe recipe{.kind = static_cast<Kind>(kind - kKinds.begin())};
      if (recipe.kind == Kind::kConstant) {
        recipe.constant = {one.at("input"), one.at("value"), one.at("dims").get<Dims>(), one.at("like")};
        if (recipe.constant.dims.size() > kMaxConstantRank || element_count(recipe.constant.dims) > kMaxConstant ||
            std::any_of(recipe.constant.dims.begin(), recipe.constant.dims.end(), [](int64_t d) { return d < 1; }))
          fail(ErrorCode::kInvalidModel, "A constant in the metadata has more than {} elements, or none: {}",
               kMaxConstant, name);
      } else {
        recipe.preprocess = parse_preprocess_json(one.at("preprocess").dump(), name);
        recipe.preprocess.input = one.at("input");
      }
      recipes.push_back(std::move(recipe));
    }
  } catch (const nlohmann::json::exception& e) {
    fail(ErrorCode::kInvalidModel, "The inputs in the metadata are damaged; write them again: {}: {}", name, e.what());
  }
  return recipes;
}

void store_input_recipes(Graph& graph, const std::vector<InputRecipe>& recipes,
                         const std::vector<std::string>& labels) {
  graph.metadata[kInputsKey] = input_recipes_json(recipes);
  store_labels(graph, labels);
}

bool load_input_recipes(const Graph& graph, std::vector<InputRecipe>& recipes, std::vector<std::string>& labels) {
  const auto found = graph.metadata.find(kInputsKey);
  if (found == graph.metadata.end()) return false;
  recipes = parse_input_recipes(found->second, kInputsKey);
  labels = load_labels(graph);
  return true;
}

std::string input_recipes_difference(const std::vector<InputRecipe>& data_file, const std::vector<InputRecipe>& model) {
  for (const InputRecipe& ours : data_file)
    for (const InputRecipe& theirs : model) {
      if (ours.input() != theirs.input()) continue;
      if (ours.kind != theirs.kind)
        return fmt::format("'{}' is a {} in the data file but a {} in the model", ours.input(),
                           kKinds[static_cast<size_t>(ours.kind)], kKinds[static_cast<size_t>(theirs.kind)]);
      if (ours.kind == Kind::kConstant && ours.constant.value != theirs.constant.value)
        return fmt::format("'{}' is {:g} in the data file but {:g} in the model", ours.input(), ours.constant.value,
                           theirs.constant.value);
      if (ours.kind == Kind::kConstant) continue;
      if (const std::string difference = preprocess_difference(ours.preprocess, theirs.preprocess); !difference.empty())
        return fmt::format("of '{}' {}", ours.input(), difference);
    }
  return "";
}

}  // namespace slipway
