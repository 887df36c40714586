// Pre-processing and labels as JSON in the model's metadata, and the comparison of two descriptions.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/preprocess.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kPreprocessKey = "slipway.preprocess";
constexpr const char* kLabelsKey = "slipway.labels";

/// Calls visit(name, field) for every field of the schema: the one list of their names.
template <typename P, typename Visit>
void for_each_field(P& how, const Visit& visit) {
  visit("input", how.input);
  visit("resize_shorter", how.resize_shorter);
  visit("resize_width", how.resize_width);
  visit("resize_height", how.resize_height);
  visit("interpolation", how.interpolation);
  visit("crop_width", how.crop_width);
  visit("crop_height", how.crop_height);
  visit("color", how.color);
  visit("scale", how.scale);
  visit("mean", how.mean);
  visit("std", how.std);
  visit("layout", how.layout);
  visit("dtype", how.dtype);
}

Json parse(const std::string& text, const std::string& name) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded())
    fail(ErrorCode::kInvalidModel, "The metadata hold damaged JSON; remove the entry or write it again: {}", name);
  return json;
}

bool near(double a, double b) { return std::abs(a - b) <= 1e-3 * std::max(std::abs(a), std::abs(b)); }

bool same(const std::vector<double>& a, const std::vector<double>& b, double when_empty) {
  const auto at = [&](const std::vector<double>& v, size_t i) {
    return v.empty() ? when_empty : v[v.size() == 1 ? 0 : i];
  };
  const size_t count = std::max({a.size(), b.size(), size_t{1}});
  if ((a.size() > 1 && a.size() != count) || (b.size() > 1 && b.size() != count)) return false;
  for (size_t i = 0; i < count; ++i)
    if (!near(at(a, i), at(b, i))) return false;
  return true;
}

}  // namespace

std::string preprocess_json(const Preprocess& how) {
  Json json = Json::object();
  for_each_field(how, [&](const char* name, const auto& field) { json[name] = field; });
  return json.dump();
}

Preprocess parse_preprocess_json(const std::string& text, const std::string& name) {
  const Json json = parse(text, name);
  Preprocess how;
  try {
    for_each_field(how, [&](const char* field_name, auto& field) {
      if (json.contains(field_name)) json.at(field_name).get_to(field);
    });
  } catch (const nlohmann::json::exception& e) {
    fail(ErrorCode::kInvalidModel, "The pre-processing in the metadata is damaged; write it again: {}: {}", name,
         e.what());
  }
  for (const int64_t side : {how.resize_shorter, how.resize_width, how.resize_height, how.crop_width, how.crop_height})
    if (side < 0 || side > kMaxImageSide)
      fail(ErrorCode::kInvalidModel, "A size of the pre-processing lies outside 0 to {}: {} in {}", kMaxImageSide, side,
           name);
  if ((how.resize_width > 0) != (how.resize_height > 0) || (how.crop_width > 0) != (how.crop_height > 0))
    fail(ErrorCode::kInvalidModel, "The pre-processing gives a width without a height; write it again: {}", name);
  return how;
}

void store_preprocess(Graph& graph, const Preprocess& how, const std::vector<std::string>& labels) {
  graph.metadata[kPreprocessKey] = preprocess_json(how);
  store_labels(graph, labels);
}

void store_labels(Graph& graph, const std::vector<std::string>& labels) {
  graph.metadata[kLabelsKey] = Json(labels).dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool load_preprocess(const Graph& graph, Preprocess& how, std::vector<std::string>& labels) {
  const auto found = graph.metadata.find(kPreprocessKey);
  if (found == graph.metadata.end()) return false;
  how = parse_preprocess_json(found->second, kPreprocessKey);
  labels = load_labels(graph);
  return true;
}

std::vector<std::string> load_labels(const Graph& graph) {
  const auto names = graph.metadata.find(kLabelsKey);
  if (names == graph.metadata.end()) return {};
  const Json json = parse(names->second, kLabelsKey);
  if (!json.is_array() || !std::all_of(json.begin(), json.end(), [](const Json& j) { return j.is_string(); }))
    fail(ErrorCode::kInvalidModel, "The labels in the metadata must be a list of names: {}", kLabelsKey);
  return json.get<std::vector<std::string>>();
}

std::string preprocess_difference(const Preprocess& data_file, const Preprocess& model) {
  std::vector<Json> theirs;
  for_each_field(model, [&](const char*, const auto& field) { theirs.push_back(field); });
  size_t index = 0;
  std::string difference;
  for_each_field(data_file, [&](const char* name, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    const Json& other_json = theirs[index++];
    const auto other = other_json.get<Field>();
    bool equal = false;
    if constexpr (std::is_same_v<Field, double>)
      equal = near(field, other);
    else if constexpr (std::is_same_v<Field, std::vector<double>>)
      equal = same(field, other, std::string_view(name) == "std" ? 1 : 0);
    else if constexpr (std::is_same_v<Field, std::string>)
      equal = field == other || (std::string_view(name) == "input" && (field.empty() || other.empty()));
    else
      equal = field == other;
    if (!equal && difference.empty())
      difference =
          fmt::format("{} is {} in the data file but {} in the model", name, Json(field).dump(), other_json.dump());
  });
  return difference;
}

}  // namespace slipway
