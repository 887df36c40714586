// Operators that move values or give them another shape. Views where libtorch has them; reading backwards, reflecting
// and resizing go by index lists along one axis after the other, whose gradient adds up what was read twice.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "train/operators.h"

namespace slipway {
namespace {

using Tensors = std::vector<at::Tensor>;
using Ints = std::vector<int64_t>;

Tensors concat(const TorchCall& call) { return {at::cat(call.inputs, call.node.integer("axis", 0))}; }

Tensors split(const TorchCall& call) {
  const int64_t axis = call.axis(0, call.x().dim()), size = call.x().size(axis);
  std::optional<Ints> sizes = call.list("split", 1);
  if (!sizes) {
    const auto count = static_cast<int64_t>(call.node.outputs.size()), chunk = (size + count - 1) / count;
    sizes.emplace();
    for (int64_t i = 0; i < count; ++i) sizes->push_back(std::clamp<int64_t>(size - i * chunk, 0, chunk));
  }
  return at::split_with_sizes(call.x(), *sizes, axis);
}

// Elements from `start` on, every `step`, to before `end`, which may be clamped and count from the end (ONNX Slice-13).
at::Tensor slice_axis(const at::Tensor& x, int64_t axis, int64_t start, int64_t end, int64_t step) {
  constexpr int64_t kFar = int64_t{1} << 48;
  const int64_t size = x.size(axis);
  const auto place = [&](int64_t at) { return std::clamp(at, -kFar, kFar) + (at < 0 ? size : 0); };
  step = std::clamp(step, -kFar, kFar);
  if (step > 0)
    return at::slice(x, axis, std::clamp<int64_t>(place(start), 0, size), std::clamp<int64_t>(place(end), 0, size),
                     step);
  const int64_t first = std::clamp<int64_t>(place(start), -1, size - 1);
  const int64_t span = first - std::clamp<int64_t>(place(end), -1, size - 1);
  if (span <= 0) return at::slice(x, axis, 0, 0);
  const int64_t last = first + (span - 1) / -step * step;
  return at::slice(x, axis, last, first + 1, -step).flip(axis);
}

Tensors slice(const TorchCall& call) {
  const auto starts = call.list("starts", 1), ends = call.list("ends", 2), steps = call.list("steps", 4);
  std::optional<Ints> axes = call.list("axes", 3);
  if (!axes && starts) {
    axes.emplace(starts->size());
    std::iota(axes->begin(), axes->end(), int64_t{0});
  }
  if (!starts || !ends || ends->size() != starts->size() || axes->size() != starts->size() ||
      (steps && steps->size() != starts->size()))
    fail(ErrorCode::kInvalidModel, "A slice's starts, ends, axes and steps differ in length at {}", call.node.label());
  at::Tensor y = call.x();
  for (size_t i = 0; i < axes->size(); ++i) {
    const int64_t step = steps ? (*steps)[i] : 1;
    if (step == 0) fail(ErrorCode::kInvalidModel, "A slice's step is 0 at {}", call.node.label());
    y = slice_axis(y, normalize_axis((*axes)[i], y.dim(), call.node.label()), (*starts)[i], (*ends)[i], step);
  }
  return {y};
}

at::Tensor select(const at::Tensor& x, int64_t axis, const Ints& indices) {
  return at::index_select(x, axis, at::tensor(indices, at::kLong));
}

int64_t reflected(int64_t at, int64_t size) {
  if (size == 1) return 0;
  const int64_t period = 2 * (size - 1), phase = ((at % period) + period) % period;
  return phase < size ? phase : period - phase;
}

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of an axis made by index

at::Tensor pad_by_index(const TorchCall& call, at::Tensor x, int64_t axis, int64_t before, int64_t after) {
  const std::string mode = call.node.text("mode", "constant");
  const int64_t size = x.size(axis);
  if (size < 1 || std::max(before, after) > kMaxSize)
    fail(ErrorCode::kInvalidModel, "Padding does not fit its axis of {} at {}", size, call.node.label());
  Ints indices;
  for (int64_t at = -before; at < size + after; ++at) {
    if (mode == "edge")
      indices.push_back(std::clamp<int64_t>(at, 0, size - 1));
    else if (mode == "wrap")
      indices.push_back(((at % size) + size) % size);
    else if (mode == "reflect")
      indices.push_back(reflected(at, size));
    else
      call.refuse("the mode");
  }
  return select(x, axis, indices);
}

Tensors pad(const TorchCall& call) {
  const int64_t rank = call.x().dim();
  const Ints pads = call.list("pads", 1).value_or(Ints());
  const Ints axes = axes_from_front(call.opset >= 18 && call.has(3) ? call.ints(3) : Ints(), rank, call.node);
  if (pads.size() != 2 * axes.size())
    fail(ErrorCode::kInvalidModel, "Padding takes a begin and an end per axis at {}", call.node.label());
  Ints both(static_cast<size_t>(2 * rank), 0);  // last axis first
  at::Tensor y = call.x();
  const bool constant = call.node.text("mode", "constant") == "constant";
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t before = pads[i], after = pads[i + axes.size()];
    const auto slot = static_cast<size_t>(2 * (rank - 1 - axes[i]));
    both[slot] = before;
    both[slot + 1] = after;
    if (!constant && (before != 0 || after != 0)) y = pad_by_index(call, y, axes[i], before, after);
  }
  if (!constant) return {y};
  double value = call.opset < 11 ? static_cast<double>(call.node.real("value", 0.0f)) : 0;
  if (call.has(2) && call.inputs[2].numel() > 0) value = call.number(2);
  return {at::constant_pad_nd(call.x(), both, value)};
}

Tensors reshape(const TorchCall& call) {
  Ints dims = call.ints(1);
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] == 0 && call.node.integer("allowzero", 0) == 0) dims[i] = call.x().size(static_cast<int64_t>(i));
  return {call.x().reshape(dims)};
}

Tensors flatten(const TorchCall& call) {
  const int64_t rank = call.x().dim(), axis = call.node.integer("axis", 1);
  int64_t rows = 1;
  for (int64_t i = 0; i < (axis < 0 ? axis + rank : axis); ++i) rows *= call.x().size(i);
  return {call.x().reshape({rows, rows == 0 ? 0 : call.x().numel() / rows})};
}

Tensors squeeze(const TorchCall& call) {
  const at::Tensor& x = call.x();
  const std::optional<Ints> axes = call.list("axes", 1);
  std::vector<bool> drops(static_cast<size_t>(x.dim()), false);
  for (int64_t i = 0; i < x.dim(); ++i) drops[static_cast<size_t>(i)] = !axes && x.size(i) == 1;
  for (const int64_t axis : axes.value_or(Ints()))
    drops[static_cast<size_t>(normalize_axis(axis, x.dim(), call.node.label()))] = true;
  Ints dims;
  for (int64_t i = 0; i < x.dim(); ++i)
    if (!drops[static_cast<size_t>(i)]) dims.push_back(x.size(i));
  return {x.reshape(dims)};
}

Tensors unsqueeze(const TorchCall& call) {
  const Ints axes = call.list("axes", 1).value_or(Ints());
  const int64_t rank = call.x().dim() + static_cast<int64_t>(axes.size());
  std::vector<bool> fresh(static_cast<size_t>(rank), false);
  for (const int64_t axis : axes) fresh[static_cast<size_t>(normalize_axis(axis, rank, call.node.label()))] = true;
  Ints dims;
  int64_t next = 0;
  for (const bool is_new : fresh) dims.push_back(is_new || next >= call.x().dim() ? 1 : call.x().size(next++));
  return {call.x().reshape(dims)};
}

Tensors transpose(const TorchCall& call) {
  Ints reversed(static_cast<size_t>(call.x().dim()));
  std::iota(reversed.rbegin(), reversed.rend(), int64_t{0});
  return {call.x().permute(call.node.integers("perm", reversed))};
}

Tensors expand(const TorchCall& call) { return {call.x().expand(at::infer_size(call.x().sizes(), call.ints(1)))}; }
Tensors tile(const TorchCall& call) { return {call.x().repeat(call.ints(1))}; }

at::Tensor from_front(const at::Tensor& indices, int64_t size) {
  const at::Tensor wide = indices.to(at::kLong);
  return at::where(wide < 0, wide + size, wide);
}

Tensors gather(const TorchCall& call) {
  const at::Tensor &x = call.x(), &indices = call.inputs[1];
  const int64_t axis = call.axis(0, x.dim());
  const at::Tensor picked = at::index_select(x, axis, from_front(indices, x.size(axis)).flatten());
  Ints dims = x.sizes().vec();
  dims.erase(dims.begin() + axis);
  dims.insert(dims.begin() + axis, indices.sizes().begin(), indices.sizes().end());
  return {picked.reshape(dims)};
}

Tensors gather_elements(const TorchCall& call) {
  const int64_t axis = call.axis(0, call.x().dim());
  return {at::gather(call.x(), axis, from_front(call.inputs[1], call.x().size(axis)))};
}

Tensors shape(const TorchCall& call) {
  const int64_t rank = call.x().dim();
  const auto place = [rank](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
  const int64_t start = place(call.node.integer("start", 0)), end = place(call.node.integer("end", rank));
  const at::IntArrayRef sizes = call.x().sizes();
  return {at::tensor(Ints(sizes.begin() + start, sizes.begin() + std::max(start, end)), at::kLong)};
}

Tensors size(const TorchCall& call) { return {at::scalar_tensor(call.x().numel(), at::kLong)}; }

struct Blocks {
  int64_t block, n, c, h, w;
};
Blocks blocks_of(const TorchCall& call) {
  if (call.x().dim() != 4) fail(ErrorCode::kInvalidModel, "It takes four dimensions at {}", call.node.label());
  const int64_t block = call.node.integer("blocksize", 0);
  if (block < 1 || block > 65536)
    fail(ErrorCode::kInvalidModel, "A block size must be from 1 to 65536 at {}: {}", call.node.label(), block);
  const at::IntArrayRef s = call.x().sizes();
  return {block, s[0], s[1], s[2], s[3]};
}

Tensors depth_to_space(const TorchCall& call) {
  const auto [b, n, c, h, w] = blocks_of(call);
  const int64_t depth = c / (b * b);
  const at::Tensor y = call.node.text("mode", "DCR") == "CRD"
                           ? call.x().reshape({n, depth, b, b, h, w}).permute({0, 1, 4, 2, 5, 3})
                           : call.x().reshape({n, b, b, depth, h, w}).permute({0, 3, 4, 1, 5, 2});
  return {y.reshape({n, depth, h * b, w * b})};
}

Tensors space_to_depth(const TorchCall& call) {
  const auto [b, n, c, h, w] = blocks_of(call);
  const at::Tensor y = call.x().reshape({n, c, h / b, b, w / b, b}).permute({0, 3, 5, 1, 2, 4});
  return {y.reshape({n, c * b * b, h / b, w / b})};
}

// Where output position `at` of a resized axis lies in the input.
double source_coordinate(const TorchCall& call, const std::string& mode, double at, double scale, int64_t from,
                         int64_t to) {
  const double half_pixel = (at + 0.5) / scale - 0.5;
  if (mode == "half_pixel") return half_pixel;
  if (mode == "asymmetric") return at / scale;
  if (mode == "align_corners") return to == 1 ? 0 : at * static_cast<double>(from - 1) / static_cast<double>(to - 1);
  if (mode == "pytorch_half_pixel") return to > 1 ? half_pixel : 0;
  if (mode == "tf_half_pixel_for_nn") return (at + 0.5) / scale;
  call.refuse("the coordinate_transformation_mode");
}

double nearest(const TorchCall& call, const std::string& mode, double x) {
  if (mode == "round_prefer_floor") return std::ceil(x - 0.5);
  if (mode == "round_prefer_ceil") return std::floor(x + 0.5);
  if (mode == "floor") return std::floor(x);
  if (mode == "ceil") return std::ceil(x);
  call.refuse("the nearest_mode");
}

at::Tensor resize_axis(const TorchCall& call, const at::Tensor& x, int64_t axis, double scale, int64_t to) {
  const bool modern = call.node.op_type == "Resize" && call.opset >= 11;
  const std::string mode = call.node.text("mode", "nearest");
  const std::string coordinates =
      call.node.text("coordinate_transformation_mode", modern ? "half_pixel" : "asymmetric");
  const std::string rounding = call.node.text("nearest_mode", modern ? "round_prefer_floor" : "floor");
  const int64_t from = x.size(axis);
  const at::Tensor weights = at::zeros({to, from}, at::kDouble);
  const auto add = [&](int64_t row, double position, double weight) {
    const auto column = static_cast<int64_t>(std::clamp(position, 0.0, static_cast<double>(from - 1)));
    weights.data_ptr<double>()[row * from + column] += weight;
  };
  for (int64_t i = 0; i < to; ++i) {
    const double at = source_coordinate(call, coordinates, static_cast<double>(i), scale, from, to);
    const double floor = std::floor(at);
    if (mode == "nearest") {
      add(i, nearest(call, rounding, at), 1);
    } else {
      add(i, floor, 1 - (at - floor));
      add(i, floor + 1, at - floor);
    }
  }
  const at::Tensor matrix = weights.to(x.scalar_type());
  if (axis == x.dim() - 1) return at::matmul(x, matrix.t());
  return at::matmul(x.transpose(axis, -1), matrix.t()).transpose(axis, -1);
}

// By scales or by sizes, of all axes or of those that are named.
Tensors resize(const TorchCall& call) {
  const Node& node = call.node;
  const std::string mode = node.text("mode", "nearest");
  if (mode == "cubic") call.refuse("the mode");
  if (node.integer("antialias", 0) != 0) call.refuse("antialiasing");
  if (node.integer("exclude_outside", 0) != 0) call.refuse("exclude_outside");
  if (node.text("keep_aspect_ratio_policy", "stretch") != "stretch") call.refuse("the keep_aspect_ratio_policy");
  at::Tensor y = call.x();
  const Ints axes = axes_from_front(node.integers("axes"), y.dim(), node);
  const bool modern = node.op_type == "Resize" && call.opset >= 11;
  const bool by_size = modern && call.has(3) && call.inputs[3].numel() > 0;
  const Ints sizes = by_size ? call.ints(3) : Ints();
  std::vector<float> scales = node.reals("scales");
  if (!by_size && scales.empty() && call.has(modern ? 2 : 1)) {
    const at::Tensor given = call.inputs[modern ? 2 : 1].detach().to(at::kFloat).contiguous();
    scales.assign(given.data_ptr<float>(), given.data_ptr<float>() + given.numel());
  }
  if ((by_size ? sizes.size() : scales.size()) != axes.size())
    fail(ErrorCode::kInvalidModel, "Resizing takes one scale or size per axis at {}", node.label());
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t from = y.size(axes[i]);
    const double scale =
        by_size ? static_cast<double>(sizes[i]) / static_cast<double>(from) : static_cast<double>(scales[i]);
    if (!(scale > 0) || !(scale * static_cast<double>(from) <= static_cast<double>(kMaxSize)))
      fail(ErrorCode::kInvalidModel, "A scale or size does not fit its axis of {} at {}", from, node.label());
    const int64_t to = by_size ? sizes[i] : static_cast<int64_t>(std::floor(static_cast<float>(from) * scales[i]));
    if (to != from || scale != 1) y = resize_axis(call, y, axes[i], scale, to);
  }
  return {y};
}

constexpr OperatorRow kMovementRows[] = {
    {"Concat", concat},
    {"Split", split},
    {"Slice", slice},
    {"Pad", pad},
    {"Reshape", reshape},
    {"Flatten", flatten},
    {"Squeeze", squeeze},
    {"Unsqueeze", unsqueeze},
    {"Transpose", transpose},
    {"Expand", expand},
    {"Tile", tile},
    {"Gather", gather},
    {"GatherElements", gather_elements},
    {"Shape", shape},
    {"Size", size},
    {"DepthToSpace", depth_to_space},
    {"SpaceToDepth", space_to_depth},
    {"Resize", resize},
    {"Upsample", resize},
};

}  // namespace

std::span<const OperatorRow> movement_operators() { return kMovementRows; }

}  // namespace slipway
