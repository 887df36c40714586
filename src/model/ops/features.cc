// ai.onnx.ml's preparation of features: Scaler, Normalizer, Imputer, OneHotEncoder, CategoryMapper, FeatureVectorizer.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

// One value for all, or one for each place of the last axis.
template <typename T>
class FeatureList {
 public:
  FeatureList(const EvalContext& ctx, std::string_view attribute, std::vector<T> values) : values_(std::move(values)) {
    const Dims& dims = ctx.input(0).dims();
    const int64_t size = dims.empty() ? 1 : dims.back();
    if (values_.size() != 1 && static_cast<int64_t>(values_.size()) != size)
      ctx.reject(fmt::format("{} has {} entries for {} features", attribute, values_.size(), size));
  }
  T at(size_t element) const { return values_[element % values_.size()]; }

 private:
  std::vector<T> values_;
};

FeatureList<float> feature_reals(const EvalContext& ctx, std::string_view attribute, float fallback) {
  std::vector<float> values = ctx.node.reals(attribute);
  if (values.empty()) values.push_back(fallback);
  return {ctx, attribute, std::move(values)};
}

void infer_to_float(InferContext& ctx) { ctx.set_output(0, DType::kFloat32, ctx.shape(0)); }

void eval_scaler(EvalContext& ctx) {
  const FeatureList<float> offset = feature_reals(ctx, "offset", 0), scale = feature_reals(ctx, "scale", 1);
  std::vector<double> values = to_doubles(ctx.input(0));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = (values[i] - static_cast<double>(offset.at(i))) * static_cast<double>(scale.at(i));
  ctx.set_output(0, from_doubles(DType::kFloat32, ctx.input(0).dims(), values));
}

// L1 divides by the sum of magnitudes, as scikit-learn and ONNX Runtime do.
void eval_normalizer(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::string norm = ctx.node.text("norm", "MAX");
  if (norm != "MAX" && norm != "L1" && norm != "L2") ctx.reject(fmt::format("its norm is unknown: {}", norm));
  if (x.rank() == 0) ctx.reject("its input is a scalar");
  std::vector<double> values = to_doubles(x);
  const auto width = static_cast<size_t>(x.dims().back());
  for (size_t start = 0; start < values.size(); start += width) {
    const auto row = std::span(values).subspan(start, width);
    double divisor = norm == "MAX" ? *std::max_element(row.begin(), row.end()) : 0;
    for (double v : row) divisor += norm == "L1" ? std::fabs(v) : norm == "L2" ? v * v : 0;
    if (norm == "L2") divisor = std::sqrt(divisor);
    for (double& v : row)
      if (divisor != 0) v /= divisor;
  }
  ctx.set_output(0, from_doubles(DType::kFloat32, x.dims(), values));
}

void eval_imputer(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (is_integer(x.dtype())) {
    const FeatureList<int64_t> fresh(ctx, "imputed_value_int64s", ctx.node.integers("imputed_value_int64s"));
    const int64_t missing = ctx.node.integer("replaced_value_int64", 0);
    std::vector<int64_t> values = to_ints(x);
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] == missing) values[i] = fresh.at(i);
    return ctx.set_output(0, cast(Tensor::of<int64_t>(x.dims(), values), x.dtype()));
  }
  const FeatureList<float> fresh(ctx, "imputed_value_floats", ctx.node.reals("imputed_value_floats"));
  const auto missing = static_cast<double>(ctx.node.real("replaced_value_float", 0));
  std::vector<double> values = to_doubles(x);
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] == missing || (std::isnan(values[i]) && std::isnan(missing)))
      values[i] = static_cast<double>(fresh.at(i));
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), values));
}

template <typename T>
std::vector<T> listed(const Node& node, std::string_view attribute) {
  const auto it = node.attributes.find(attribute);
  const auto* values = it == node.attributes.end() ? nullptr : std::get_if<std::vector<T>>(&it->second);
  return values == nullptr ? std::vector<T>() : *values;
}

template <typename T>
std::map<T, size_t> places_of(const std::vector<T>& keys) {
  std::map<T, size_t> places;
  for (size_t i = 0; i < keys.size(); ++i) places.emplace(keys[i], i);
  return places;
}

int64_t category_count(const Node& node) {
  const size_t texts = listed<std::string>(node, "cats_strings").size(), numbers = node.integers("cats_int64s").size();
  if ((texts == 0) == (numbers == 0)) reject(node, "it needs either cats_strings or cats_int64s");
  return static_cast<int64_t>(std::max(texts, numbers));
}

// A new last axis with a one at each element's category; numbers are truncated to integers first.
void eval_one_hot_encoder(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Dims dims = x.dims();
  dims.push_back(category_count(ctx.node));
  const auto count = static_cast<size_t>(dims.back());
  std::vector<float> y(static_cast<size_t>(bounded_count(dims)), 0.0f);
  const auto mark = [&](const auto& values, const auto& places) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto it = places.find(values[i]);
      if (it != places.end())
        y[i * count + it->second] = 1;
      else if (ctx.node.integer("zeros", 1) == 0)
        ctx.reject(fmt::format("its input has a category that it does not know: {}", values[i]));
    }
  };
  const auto texts = listed<std::string>(ctx.node, "cats_strings");
  if (texts.empty() == (x.dtype() == DType::kString))
    ctx.reject(
        fmt::format("its categories are {}, its input {}", texts.empty() ? "numbers" : "texts", to_string(x.dtype())));
  if (texts.empty())
    mark(to_ints(x), places_of(ctx.node.integers("cats_int64s")));
  else
    mark(x.strings(), places_of(texts));
  ctx.set_output(0, Tensor::of<float>(dims, y));
}

void infer_one_hot_encoder(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  std::vector<Dim> dims = x.dims();
  dims.emplace_back(category_count(ctx.node));
  ctx.set_output(0, DType::kFloat32, x.has_rank() ? Shape(std::move(dims)) : Shape());
}

void eval_category_mapper(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto texts = listed<std::string>(ctx.node, "cats_strings");
  const std::vector<int64_t> numbers = ctx.node.integers("cats_int64s");
  if (texts.size() != numbers.size())
    ctx.reject(fmt::format("{} cats_strings for {} cats_int64s", texts.size(), numbers.size()));
  if (x.dtype() == DType::kString) {
    const auto places = places_of(texts);
    std::vector<int64_t> y;
    for (const std::string& text : x.strings()) {
      const auto it = places.find(text);
      y.push_back(it == places.end() ? ctx.node.integer("default_int64", -1) : numbers[it->second]);
    }
    return ctx.set_output(0, Tensor::of<int64_t>(x.dims(), y));
  }
  const auto places = places_of(numbers);
  std::vector<std::string> y;
  for (int64_t number : to_ints(x)) {
    const auto it = places.find(number);
    y.push_back(it == places.end() ? ctx.node.text("default_string", "_Unused") : texts[it->second]);
  }
  ctx.set_output(0, Tensor::of_strings(x.dims(), std::move(y)));
}

void infer_category_mapper(InferContext& ctx) {
  ctx.set_output(0,
                 ctx.dtype(0) == DType::kUndefined ? DType::kUndefined
                 : ctx.dtype(0) == DType::kString  ? DType::kInt64
                                                   : DType::kString,
                 ctx.shape(0));
}

// Side by side along axis 1; a vector is one row.
void eval_feature_vectorizer(EvalContext& ctx) {
  const std::vector<int64_t> sizes = ctx.node.integers("inputdimensions");
  if (!sizes.empty() && sizes.size() != ctx.input_count())
    ctx.reject(fmt::format("{} inputdimensions for {} inputs", sizes.size(), ctx.input_count()));
  int64_t rows = -1, width = 0;
  std::vector<std::vector<double>> parts;
  std::vector<int64_t> widths;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const Tensor& x = ctx.input(i);
    if (x.rank() != 1 && x.rank() != 2) ctx.reject(fmt::format("input {} {} is no matrix", i, to_string(x.dims())));
    const int64_t own = x.rank() == 1 ? 1 : x.dims()[0];
    widths.push_back(x.dims().back());
    if ((rows >= 0 && own != rows) || (!sizes.empty() && sizes[i] != widths[i]))
      ctx.reject(fmt::format("input {} {} has not the rows or columns that are wanted", i, to_string(x.dims())));
    rows = own;
    width += widths[i];
    parts.push_back(to_doubles(x));
  }
  std::vector<double> y;
  y.reserve(static_cast<size_t>(bounded_count(Dims{rows, width})));
  for (int64_t row = 0; row < rows; ++row)
    for (size_t i = 0; i < parts.size(); ++i)
      y.insert(y.end(), parts[i].begin() + row * widths[i], parts[i].begin() + (row + 1) * widths[i]);
  ctx.set_output(0, from_doubles(DType::kFloat32, {rows, width}, y));
}

void infer_feature_vectorizer(InferContext& ctx) {
  Dim rows, width(0);
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const Shape& x = ctx.shape(i);
    if (x.rank() == 2 && !rows.is_known()) rows = x[0];
    if (x.rank() == 1) rows = Dim(1);
    width = add(width, x.rank() > 0 ? x[x.rank() - 1] : Dim());
  }
  ctx.set_output(0, DType::kFloat32, Shape({rows, width}));
}

void rows_of_feature_vectorizer(RowsContext& ctx) {
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (!ctx.is_along(i) || ctx.rows(i).axis != 0 || ctx.rank(i) != 2 || ctx.rows(i).block != ctx.rows(0).block)
      return ctx.mixes("its inputs do not all hold the rows along the first of two axes");
  ctx.set_along(0, ctx.rows(0).block);
}

// Each place of the last axis is treated in its own way.
void rows_before_features(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext& c, size_t axis) { return axis + 1 >= c.rank(0); });
}

constexpr std::string_view kFeaturesDomain = "ai.onnx.ml";

constexpr OpSpec kFeatureOps[] = {
    {.name = "Scaler",
     .min_inputs = 1,
     .infer = infer_to_float,
     .eval = eval_scaler,
     .rows = rows_before_features,
     .domain = kFeaturesDomain},
    {.name = "Normalizer",
     .min_inputs = 1,
     .infer = infer_to_float,
     .eval = eval_normalizer,
     .rows = rows_before_features,
     .domain = kFeaturesDomain},
    {.name = "Imputer",
     .min_inputs = 1,
     .infer = infer_same_as_first,
     .eval = eval_imputer,
     .rows = rows_before_features,
     .domain = kFeaturesDomain},
    {.name = "OneHotEncoder",
     .min_inputs = 1,
     .infer = infer_one_hot_encoder,
     .eval = eval_one_hot_encoder,
     .rows = rows_stay,
     .domain = kFeaturesDomain},
    {.name = "CategoryMapper",
     .min_inputs = 1,
     .infer = infer_category_mapper,
     .eval = eval_category_mapper,
     .traits = kElementwise,
     .domain = kFeaturesDomain},
    {.name = "FeatureVectorizer",
     .min_inputs = 1,
     .max_inputs = -1,
     .infer = infer_feature_vectorizer,
     .eval = eval_feature_vectorizer,
     .rows = rows_of_feature_vectorizer,
     .domain = kFeaturesDomain},
};

}  // namespace

std::span<const OpSpec> feature_ops() { return kFeatureOps; }

}  // namespace slipway
