// The table of hints for operators of tensors. Each completes a proposal whose first operand is chosen; what it leaves
// alone stays as the generic recipe made it.
#include "call_hints.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "call_hints_families.h"

namespace slipway {
namespace {

// Counted from the end now and then, which opset 11 brought to all operators.
int64_t as_axis(Call& c, int64_t axis, int64_t rank) {
  return c.writer.style.opset >= 11 && c.writer.chance(0.3) ? axis - rank : axis;
}

int64_t some_axis(Call& c, int64_t rank) { return as_axis(c, c.writer.between(0, rank - 1), rank); }

void axis_only(Call& c) {
  if (c.rank(0) > 0) c.attributes["axis"] = some_axis(c, c.rank(0));
}

std::vector<int64_t> some_axes(Call& c, int64_t rank, double share) {
  std::vector<int64_t> axes;
  for (int64_t a = 0; a < rank; ++a)
    if (c.writer.chance(share)) axes.push_back(as_axis(c, a, rank));
  return axes;
}

void transpose(Call& c) {
  std::vector<int64_t> perm(c.dims(0).size());
  std::iota(perm.begin(), perm.end(), 0);
  if (perm.size() == 4 && c.writer.chance(0.5))
    perm = c.writer.chance(0.5) ? std::vector<int64_t>{0, 2, 3, 1} : std::vector<int64_t>{0, 3, 1, 2};
  else
    for (size_t i = perm.size(); i > 1; --i) std::swap(perm[i - 1], perm[c.writer.random.below(i)]);
  c.attributes["perm"] = perm;
}

void concat(Call& c) {
  const int64_t rank = c.rank(0), axis = c.writer.between(0, std::max<int64_t>(rank - 1, 0));
  c.attributes["axis"] = as_axis(c, axis, rank);
  c.inputs.resize(1);
  for (int64_t n = c.writer.any({0, 1, 1, 1, 2, 3}); n > 0; --n) {
    Dims dims = c.dims(0);
    if (c.writer.chance(0.4)) dims[static_cast<size_t>(axis)] = c.writer.any({0, 1, 2, 3, 8});
    c.inputs.push_back(c.writer.chance(0.1) ? c.inputs[0] : c.writer.like(c.dtype(0), dims, 0.7));
  }
  if (c.writer.chance(0.3)) std::swap(c.inputs.front(), c.inputs.back());
}

void split(Call& c) {
  const int64_t axis = c.writer.between(0, c.rank(0) - 1), size = c.dims(0)[static_cast<size_t>(axis)];
  c.attributes = {{"axis", as_axis(c, axis, c.rank(0))}};
  c.inputs.resize(1);
  const int64_t parts = std::min<int64_t>(std::max<int64_t>(size, 1), c.writer.any({1, 2, 2, 3, 4}));
  c.outputs = static_cast<size_t>(parts);
  if (size % parts == 0 && c.writer.chance(0.4)) {
    if (c.writer.style.opset >= 18) c.attributes["num_outputs"] = parts;
    return;
  }
  std::vector<int64_t> sizes(static_cast<size_t>(parts), size / parts);
  sizes.back() += size % parts;
  c.ints("split", 1, sizes);
}

void slice(Call& c) {
  const std::vector<int64_t> axes = some_axes(c, c.rank(0), 0.5);
  std::vector<int64_t> starts, ends, steps;
  for (const int64_t a : axes) {
    const int64_t size = c.dims(0)[static_cast<size_t>(a < 0 ? a + c.rank(0) : a)];
    int64_t start = c.writer.between(0, std::max<int64_t>(size - 1, 0)), end = c.writer.between(start, size);
    const bool back = c.writer.style.opset >= 10 && c.writer.chance(0.15);
    if (end == start && c.writer.chance(0.9)) end = size;
    steps.push_back(back ? -1 : c.writer.any({1, 1, 1, 2}));
    if (back)
      std::tie(start, end) = std::pair(c.writer.chance(0.5) ? size - 1 : -1, c.writer.any({-1000, -size - 1, 0}));
    else if (c.writer.chance(0.2))
      end = c.writer.any({int64_t{1} << 62, -1});
    starts.push_back(start);
    ends.push_back(end);
  }
  c.inputs.resize(1);
  c.attributes.clear();
  c.ints("starts", 1, starts);
  c.ints("ends", 2, ends);
  if (axes.empty() || c.writer.chance(0.97)) c.ints("axes", 3, axes);
  if (c.writer.style.opset >= 10) c.ints("steps", 4, steps);
}

void tile(Call& c) {
  std::vector<int64_t> repeats;
  for (size_t i = 0; i < c.dims(0).size(); ++i) repeats.push_back(c.writer.any({1, 1, 1, 2, 3}));
  c.inputs.resize(1);
  c.ints("repeats", 1, repeats);
}

void expand(Call& c) {
  Dims to = c.dims(0);
  for (int64_t& d : to)
    if (d == 1 && c.writer.chance(0.6)) d = c.writer.any({1, 2, 3, 5});
  if (to.size() < 5 && c.writer.chance(0.2)) to.insert(to.begin(), 2);
  if (c.writer.chance(0.1)) to.assign(1, 1);
  c.inputs.resize(1);
  c.ints("shape", 1, to);
}

void reshape(Call& c) {
  Dims to = c.dims(0);
  const int64_t count = c.writer.tensor(c.inputs[0]).elements();
  const double kind = c.writer.random.uniform();
  if (kind < 0.25 && to.size() >= 2) {
    const size_t at = c.writer.random.below(to.size() - 1);
    to[at] *= to[at + 1];
    to.erase(to.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  } else if (kind < 0.5 && !to.empty()) {
    const size_t at = c.writer.random.below(to.size());
    const int64_t factor = c.writer.any({2, 3, 4, 1});
    if (to[at] % factor == 0) {
      to[at] /= factor;
      to.insert(to.begin() + static_cast<std::ptrdiff_t>(at), factor);
    }
  } else if (kind < 0.6) {
    to = {count};
  } else if (kind < 0.75 && !to.empty()) {
    to = {to[0], to[0] == 0 ? 0 : count / to[0]};
  } else if (!to.empty()) {
    std::swap(to.front(), to[c.writer.random.below(to.size())]);
  }
  if (!to.empty() && count > 0 && c.writer.chance(0.4)) to[c.writer.random.below(to.size())] = -1;
  for (size_t i = 0; i < to.size() && i < c.dims(0).size(); ++i)
    if (to[i] == c.dims(0)[i] && c.writer.chance(0.2)) to[i] = 0;
  c.inputs.resize(1);
  c.attributes.clear();
  c.ints("shape", 1, to);
}

void squeeze(Call& c) {
  std::vector<int64_t> axes;
  for (int64_t a = 0; a < c.rank(0); ++a)
    if (c.dims(0)[static_cast<size_t>(a)] == 1 && c.writer.chance(0.7)) axes.push_back(as_axis(c, a, c.rank(0)));
  c.inputs.resize(1);
  c.attributes.clear();
  if (!axes.empty()) c.ints("axes", 1, axes);
}

void unsqueeze(Call& c) {
  const int64_t added = c.writer.any({1, 1, 2}), rank = c.rank(0) + added;
  std::vector<int64_t> axes = {c.writer.between(0, rank - 1)};
  if (added == 2) axes.push_back((axes[0] + 1) % rank);
  for (int64_t& a : axes) a = as_axis(c, a, rank);
  c.inputs.resize(1);
  c.ints("axes", 1, axes);
}

void blocks(Call& c) { c.attributes["blocksize"] = c.writer.any({1, 2, 2, 3}); }

void pad(Call& c) {
  const int64_t rank = c.rank(0);
  std::vector<int64_t> pads(static_cast<size_t>(2 * rank));
  for (size_t i = 0; i < pads.size(); ++i) {
    const bool spatial = rank >= 3 && i % static_cast<size_t>(rank) >= 2;
    if (spatial ? c.writer.chance(0.6) : c.writer.chance(0.1)) pads[i] = c.writer.any({1, 1, 2, -1});
  }
  const DType dtype = c.dtype(0);
  c.inputs.resize(1);
  c.attributes.erase("value");
  if (c.writer.chance(0.75)) c.attributes.erase("mode");
  c.ints("pads", 1, pads);
  if (!c.has_parameter("pads") && c.writer.chance(0.5))
    c.operand(2, c.writer.chance(0.5) ? c.writer.constant(Tensor(dtype, {}))
                                      : c.writer.constant(c.writer.random_tensor(dtype, {})));
}

Tensor indices(Call& c, Dims dims, int64_t size) {
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (double& v : values)
    v = size == 0 ? 0 : static_cast<double>(c.writer.between(c.writer.style.opset >= 11 ? -size : 0, size - 1));
  return from_doubles(c.writer.chance(0.7) ? DType::kInt64 : DType::kInt32, std::move(dims), values);
}

void gather(Call& c) {
  axis_only(c);
  const auto& axis = std::get<int64_t>(c.attributes["axis"]);
  const int64_t size = c.dims(0)[static_cast<size_t>(axis < 0 ? axis + c.rank(0) : axis)];
  c.inputs.resize(1);
  c.operand(1, c.writer.given(
                   indices(c, c.writer.chance(0.3) ? Dims{} : c.writer.random_dims(c.writer.any({1, 1, 2})), size)));
}

Dims within(Call& c, const Dims& dims) {
  Dims some = dims;
  for (int64_t& d : some)
    if (d > 1 && c.writer.chance(0.4)) d = c.writer.between(1, d);
  return some;
}

void gather_elements(Call& c) {
  axis_only(c);
  const auto& axis = std::get<int64_t>(c.attributes["axis"]);
  const int64_t size = c.dims(0)[static_cast<size_t>(axis < 0 ? axis + c.rank(0) : axis)];
  c.inputs.resize(1);
  c.operand(1, c.writer.given(indices(c, within(c, c.dims(0)), size)));
}

void scatter_elements(Call& c) {
  gather_elements(c);
  if (c.attributes.contains("reduction") && c.writer.chance(0.5)) c.attributes["reduction"] = std::string("none");
  // distinct along the axis, so that the order of writes does not matter
  const auto& axis = std::get<int64_t>(c.attributes["axis"]);
  const auto a = static_cast<size_t>(axis < 0 ? axis + c.rank(0) : axis);
  Dims dims = c.dims(1);
  const int64_t inner = strides_of(dims)[a], size = dims[a];
  std::vector<int64_t> values(static_cast<size_t>(element_count(dims)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int64_t>(i) / inner % size;
  c.operand(1, c.writer.given(Tensor::of<int64_t>(dims, values)));
  c.operand(2, c.writer.like(c.dtype(0), dims, 0.3));
}

Tensor places(Call& c, int64_t rows, int64_t depth, bool distinct) {
  const Dims& dims = c.dims(0);
  std::vector<int64_t> values;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t size = std::max<int64_t>(dims[static_cast<size_t>(k)], 1);
      values.push_back(distinct && k == 0 ? r % size : c.writer.between(0, size - 1));
    }
  return Tensor::of<int64_t>({rows, depth}, values);
}

void gather_nd(Call& c) {
  c.inputs.resize(1);
  c.attributes.clear();
  c.operand(1, c.writer.given(places(c, c.writer.between(1, 4), c.writer.between(1, c.rank(0)), false)));
}

void scatter_nd(Call& c) {
  const int64_t depth = c.writer.between(1, c.rank(0));
  const int64_t rows = c.writer.between(1, std::clamp<int64_t>(c.dims(0)[0], 1, 4));
  c.inputs.resize(1);
  c.operand(1, c.writer.given(places(c, rows, depth, true)));
  Dims updates(c.dims(0).begin() + depth, c.dims(0).end());
  updates.insert(updates.begin(), rows);
  c.operand(2, c.writer.like(c.dtype(0), updates, 0.3));
}

void one_hot(Call& c) {
  if (!is_integer(c.dtype(0))) c.operand(0, c.writer.given(indices(c, c.writer.random_dims(c.writer.any({1, 2})), 5)));
  c.inputs.resize(1);
  c.operand(1, c.writer.constant(Tensor::scalar<int64_t>(c.writer.between(1, 6))));
  c.operand(2, c.writer.constant(c.writer.random_tensor(c.writer.style.dtype, {2})));
  if (c.writer.chance(0.5)) c.attributes["axis"] = some_axis(c, c.rank(0) + 1);
}

void compress(Call& c) {
  const bool by_axis = c.writer.chance(0.7);
  c.attributes.clear();
  if (by_axis) axis_only(c);
  const int64_t count =
      by_axis ? c.dims(0)[static_cast<size_t>((std::get<int64_t>(c.attributes["axis"]) + c.rank(0)) % c.rank(0))]
              : c.writer.tensor(c.inputs[0]).elements();
  c.inputs.resize(1);
  c.operand(
      1, c.writer.constant(c.writer.random_tensor(DType::kBool, {std::max<int64_t>(1, std::min<int64_t>(count, 9))})));
}

void reverse_sequence(Call& c) {
  const int64_t time = c.writer.between(0, 1);
  c.attributes = {{"time_axis", time}, {"batch_axis", 1 - time}};
  std::vector<int64_t> lengths(static_cast<size_t>(c.dims(0)[static_cast<size_t>(1 - time)]));
  for (int64_t& v : lengths)
    v = c.writer.between(std::min<int64_t>(1, c.dims(0)[static_cast<size_t>(time)]),
                         c.dims(0)[static_cast<size_t>(time)]);
  c.inputs.resize(1);
  c.operand(1, c.writer.constant_ints(lengths));
}

void top_k(Call& c) {
  axis_only(c);
  const int64_t axis = std::get<int64_t>(c.attributes["axis"]);
  const int64_t size = c.dims(0)[static_cast<size_t>(axis < 0 ? axis + c.rank(0) : axis)];
  c.outputs = 2;
  c.inputs.resize(1);
  const int64_t k = c.writer.between(std::min<int64_t>(size, 1), std::min<int64_t>(size, 5));
  if (c.has_parameter("k"))
    c.attributes["k"] = k;
  else
    c.operand(1, c.writer.constant_ints({k}));
}

void reduce(Call& c) {
  std::vector<int64_t> axes = some_axes(c, c.rank(0), 0.5);
  if (c.rank(0) == 4 && c.writer.chance(0.3)) axes = {2, 3};
  c.inputs.resize(1);
  c.attributes.erase("axes");
  c.attributes.erase("noop_with_empty_axes");
  if (c.writer.style.opset >= 18) std::erase_if(c.signature.parameters, [](const auto& p) { return p.name == "axes"; });
  if (c.attributes.contains("keepdims")) c.attributes["keepdims"] = c.writer.between(0, 1);
  if (!axes.empty())
    c.ints("axes", 1, axes);
  else if (!c.has_parameter("axes") && c.writer.chance(0.3))
    c.attributes["noop_with_empty_axes"] = int64_t{1};
}

void cumulative_sum(Call& c) {
  c.inputs.resize(1);
  c.operand(1, c.writer.constant(Tensor::scalar<int64_t>(some_axis(c, c.rank(0)))));
  for (const char* name : {"exclusive", "reverse"})
    if (c.attributes.contains(name)) c.attributes[name] = c.writer.between(0, 1);
}

void clip(Call& c) {
  c.inputs.resize(1);
  const DType dtype = c.dtype(0);
  const auto bound = [&](double v) { return c.writer.constant(from_doubles(dtype, {}, std::vector<double>{v})); };
  const double low = c.writer.any({0, 0, 0, -1, -3}), high = c.writer.any({6, 6, 1, 3, -2});
  if (c.has_parameter("min")) {
    c.attributes = {{"min", static_cast<float>(low)}, {"max", static_cast<float>(high)}};
    return;
  }
  if (c.writer.chance(0.85)) c.operand(1, bound(low));
  if (c.writer.chance(0.8)) c.operand(2, c.writer.chance(0.9) ? bound(high) : c.writer.fresh(dtype, {}, 0.2));
}

void cast_to(Call& c) {
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat32, DType::kInt32,   DType::kInt64,   DType::kBool,
                              DType::kUint8,   DType::kInt8,    DType::kFloat16, DType::kFloat64, DType::kBfloat16};
  c.attributes = {{"to", static_cast<int64_t>(kTypes[c.writer.random.below(std::size(kTypes))])}};
}

void where(Call& c) {
  const Dims dims = c.dims(0);
  const DType dtype = c.writer.chance(0.8) ? c.writer.style.dtype : DType::kInt64;
  c.inputs.resize(1);
  for (size_t i = 1; i <= 2; ++i)
    c.operand(i, c.writer.like(dtype, c.writer.chance(0.2)                    ? Dims{}
                                      : c.writer.chance(0.2) && !dims.empty() ? Dims{dims.back()}
                                                                              : dims));
}

void shape_of(Call& c) {
  c.attributes.clear();
  if (c.writer.style.opset >= 15 && c.writer.chance(0.2)) c.attributes["start"] = c.writer.between(-2, 1);
}

void no_attributes(Call& c) { c.attributes.clear(); }

void dropout(Call& c) {
  c.inputs.resize(1);
  c.attributes.clear();
  if (c.writer.style.opset >= 12 && c.writer.chance(0.2)) c.outputs = 2;  // before, the mask was undefined
}

constexpr CallHint kMovement[] = {
    {"Transpose", 1, 5, transpose},
    {"Concat", 1, 5, concat},
    {"Split", 1, 5, split},
    {"Slice", 1, 5, slice},
    {"Tile", 1, 4, tile},
    {"Expand", 0, 4, expand},
    {"Reshape", 0, 5, reshape},
    {"Squeeze", 1, 5, squeeze},
    {"Unsqueeze", 0, 4, unsqueeze},
    {"DepthToSpace", 4, 4, blocks},
    {"SpaceToDepth", 4, 4, blocks},
    {"Pad", 1, 5, pad},
    {"Gather", 1, 4, gather},
    {"GatherElements", 1, 4, gather_elements},
    {"GatherND", 1, 4, gather_nd},
    {"Scatter", 1, 4, scatter_elements},
    {"ScatterElements", 1, 4, scatter_elements},
    {"ScatterND", 1, 4, scatter_nd},
    {"OneHot", 1, 2, one_hot},
    {"Compress", 1, 4, compress},
    {"ReverseSequence", 2, 4, reverse_sequence},
    {"TopK", 1, 4, top_k},
    {"CumSum", 1, 4, cumulative_sum},
    {"Clip", 0, 5, clip},
    {"Cast", 0, 5, cast_to},
    {"Where", 0, 5, where},
    {"Shape", 0, 5, shape_of},
    {"Trilu", 2, 4, nullptr},
    {"EyeLike", 2, 2, no_attributes},
    {"Dropout", 0, 5, dropout},
    {"Softmax", 1, 5, axis_only},
    {"LogSoftmax", 1, 5, axis_only},
    {"Hardmax", 1, 5, axis_only},
    {"ArgMax", 1, 5, axis_only},
    {"ArgMin", 1, 5, axis_only},
    {"LpNormalization", 1, 4, axis_only},
    {"Flatten", 0, 5, nullptr},
};

}  // namespace

const CallHint* hint_for(std::string_view op) {
  static const auto* rows = [] {
    auto* table = new std::map<std::string_view, CallHint>();
    for (const std::span<const CallHint> family :
         {std::span<const CallHint>(kMovement), network_hints(), special_hints(), later_hints()})
      for (const CallHint& row : family) table->emplace(row.op, row);
    for (const char* name : {"ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
                             "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"})
      table->emplace(name, CallHint{name, 0, 5, reduce});
    return table;
  }();
  const auto it = rows->find(op);
  return it == rows->end() ? nullptr : &it->second;
}

const std::vector<std::string>& words_for(std::string_view attribute) {
  static const std::map<std::string, std::vector<std::string>, std::less<>> words = {
      {"auto_pad", {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}},
      {"mode", {"constant", "reflect", "edge", "nearest", "linear", "cubic", "DCR", "CRD", "bilinear"}},
      {"padding_mode", {"zeros", "border", "reflection"}},
      {"direction", {"forward", "reverse", "bidirectional", "LEFT", "RIGHT"}},
      {"reduction", {"none", "add", "mul", "max", "min"}},
      {"coordinate_transformation_mode",
       {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
        "tf_crop_and_resize"}},
      {"nearest_mode", {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}},
      {"approximate", {"none", "tanh"}},
      {"keep_aspect_ratio_policy", {"stretch", "not_larger", "not_smaller"}},
  };
  static const std::vector<std::string> none;
  const auto it = words.find(attribute);
  return it == words.end() ? none : it->second;
}

}  // namespace slipway
