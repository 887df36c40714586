// The operators of ai.onnx.ml that prepare features and name classes: LabelEncoder, ArrayFeatureExtractor, Binarizer.
#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <type_traits>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

template <typename T>
Tensor vector_of(const std::vector<T>& values) {
  const auto count = static_cast<int64_t>(values.size());
  if constexpr (std::is_same_v<T, std::string>)
    return Tensor::of_strings({count}, values);
  else
    return Tensor::of<T>({count}, values);
}

// The one list named `kind`_strings, _int64s, _floats or _tensor.
Tensor label_list(const Node& node, const std::string& kind) {
  std::vector<Tensor> found;
  for (const char* type : {"_strings", "_int64s", "_floats", "_tensor"}) {
    const auto it = node.attributes.find(kind + type);
    if (it == node.attributes.end()) continue;
    if (const auto* texts = std::get_if<std::vector<std::string>>(&it->second)) found.push_back(vector_of(*texts));
    if (const auto* numbers = std::get_if<std::vector<int64_t>>(&it->second)) found.push_back(vector_of(*numbers));
    if (const auto* reals = std::get_if<std::vector<float>>(&it->second)) found.push_back(vector_of(*reals));
    if (const auto* tensor = std::get_if<Tensor>(&it->second)) found.push_back(*tensor);
  }
  if (found.size() != 1) reject(node, fmt::format("it needs exactly one of its {} lists", kind));
  if (found[0].rank() != 1) reject(node, fmt::format("its {} are no vector", kind));
  return found[0];
}

Tensor default_label(const Node& node, DType dtype) {
  if (const Tensor* value = node.tensor("default_tensor")) {
    if (value->dtype() != dtype || value->elements() != 1)
      reject(node, "its default is not one value of its values' type");
    return value->reshaped({1});
  }
  if (dtype == DType::kString) return Tensor::of_strings({1}, {node.text("default_string", "_Unused")});
  if (!is_float(dtype)) return cast(Tensor::of<int64_t>({1}, {node.integer("default_int64", -1)}), dtype);
  return cast(Tensor::of<float>({1}, {node.real("default_float", -0.0f)}), dtype);
}

// What equal elements share: any NaN is one key, as are both zeros.
std::vector<std::string> label_keys(const Tensor& t) {
  if (t.dtype() == DType::kString) return t.strings();
  std::vector<std::string> keys;
  if (is_float(t.dtype()))
    for (double v : to_doubles(t))
      keys.push_back(std::isnan(v) ? "nan" : std::to_string(std::bit_cast<uint64_t>(v == 0 ? 0.0 : v)));
  else
    for (int64_t v : to_ints(t)) keys.push_back(std::to_string(v));
  return keys;
}

void eval_label_encoder(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Tensor keys = label_list(ctx.node, "keys"), values = label_list(ctx.node, "values");
  if (keys.elements() != values.elements())
    ctx.reject(fmt::format("{} keys for {} values", keys.elements(), values.elements()));
  if (keys.dtype() != x.dtype())
    ctx.reject(fmt::format("its keys are {}, its input {}", to_string(keys.dtype()), to_string(x.dtype())));
  std::map<std::string, int64_t> places;
  const std::vector<std::string> known = label_keys(keys);
  for (size_t i = 0; i < known.size(); ++i) places[known[i]] = static_cast<int64_t>(i);
  std::vector<int64_t> sources;
  for (const std::string& key : label_keys(x)) {
    const auto it = places.find(key);
    sources.push_back(it == places.end() ? source_of(1, 0) : it->second);
  }
  const Tensor fallback = default_label(ctx.node, values.dtype());
  const std::array<const Tensor*, 2> pools = {&values, &fallback};
  ctx.set_output(0, pick(pools, x.dims(), sources));
}

void infer_label_encoder(InferContext& ctx) { ctx.set_output(0, label_list(ctx.node, "values").dtype(), ctx.shape(0)); }

// Picks along the last axis; a vector counts as one row.
void eval_feature_extractor(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() == 0) ctx.reject("its input is a scalar");
  const std::vector<int64_t> wanted = to_ints(ctx.input(1));
  const int64_t size = x.dims().back(), rows = element_count(std::span(x.dims()).first(x.dims().size() - 1));
  for (int64_t index : wanted)
    if (index < 0 || index >= size) ctx.reject(fmt::format("index {} is outside {}", index, size));
  Dims dims = x.rank() == 1 ? Dims{1, 1} : x.dims();
  dims.back() = static_cast<int64_t>(wanted.size());
  std::vector<int64_t> sources;
  sources.reserve(static_cast<size_t>(bounded_count(dims)));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t index : wanted) sources.push_back(row * size + index);
  ctx.set_output(0, pick(x, dims, sources));
}

void infer_feature_extractor(InferContext& ctx) {
  const Shape &x = ctx.shape(0), &wanted = ctx.shape(1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (x.rank() == 0) return;
  Shape y = x.rank() == 1 ? Shape({Dim(1), Dim()}) : x;
  Dim count(wanted.has_rank() ? 1 : -1);
  for (const Dim& d : wanted.dims()) count = multiply(count, d);
  y[y.rank() - 1] = count;
  ctx.set_output(0, ctx.dtype(0), y);
}

void eval_binarizer(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const double threshold = ctx.node.real("threshold", 0.0f);
  std::vector<double> values = to_doubles(x);
  for (double& v : values) v = v > threshold ? 1 : 0;
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), values));
}

constexpr std::string_view kMl = "ai.onnx.ml";

constexpr OpSpec kLabelOps[] = {
    {.name = "LabelEncoder",
     .since = 2,
     .min_inputs = 1,
     .infer = infer_label_encoder,
     .eval = eval_label_encoder,
     .traits = kElementwise,
     .domain = kMl},
    {.name = "ArrayFeatureExtractor",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_feature_extractor,
     .eval = eval_feature_extractor,
     .domain = kMl},
    {.name = "Binarizer",
     .min_inputs = 1,
     .infer = infer_same_as_first,
     .eval = eval_binarizer,
     .traits = kElementwise,
     .domain = kMl},
};

}  // namespace

std::span<const OpSpec> label_ops() { return kLabelOps; }

}  // namespace slipway
