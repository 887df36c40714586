// Operators that only move values, in every layout that allows it: a list of strided boxes copied from inputs to
// output. Reshape and its like share the input's buffer. The list is made while packing and checked against the buffers
// when the kernel is created, since it may come from a file.
#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/lower/lower.h"
#include "model/op.h"

namespace slipway {
namespace {

struct Axis {
  int64_t size, from_stride, to_stride;  ///< strides in elements
};
struct Box {
  int64_t input, from_offset, to_offset;
  std::vector<Axis> axes;
};
struct Moves {
  bool fills = false;
  uint64_t fill = 0;  ///< the bits of one element
  std::vector<Box> boxes;
};

// One logical region: where it starts in input and output, how large it is, and how the input is stepped through.
struct Region {
  int64_t input = 0;
  Dims from, to, size, step, permutation;  ///< output axis k walks input axis permutation[k]
  Dims repeat = {};                        ///< how often each is written along the axis; empty: once
};

int64_t channel_block(Layout layout) { return layout == Layout::kBlocked8 ? 8 : layout == Layout::kBlocked16 ? 16 : 1; }

Dims layout_strides(Layout layout, const Dims& d) {  // for blocked: channels count blocks
  if (layout == Layout::kPlain) return strides_of(d);
  if (layout == Layout::kNhwc) return {d[1] * d[2] * d[3], 1, d[3] * d[1], d[1]};
  const int64_t b = channel_block(layout), blocks = (d[1] + b - 1) / b;
  return {blocks * d[2] * d[3] * b, d[2] * d[3] * b, d[3] * b, b};
}

void simplify(Box& box) {
  std::erase_if(box.axes, [](const Axis& a) { return a.size == 1; });
  std::stable_sort(box.axes.begin(), box.axes.end(),
                   [](const Axis& a, const Axis& b) { return a.to_stride > b.to_stride; });
  for (size_t i = box.axes.size(); i-- > 1;) {
    const Axis inner = box.axes[i];
    Axis& outer = box.axes[i - 1];
    if (outer.from_stride != inner.size * inner.from_stride || outer.to_stride != inner.size * inner.to_stride)
      continue;
    outer = {outer.size * inner.size, inner.from_stride, inner.to_stride};
    box.axes.erase(box.axes.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

// False when the region cuts through the blocks of the layout.
bool append_box(const Region& r, Layout layout, const Dims& x, const Dims& y, Moves& moves) {
  const Dims from = layout_strides(layout, x), to = layout_strides(layout, y);
  const int64_t block = channel_block(layout);
  Box box{r.input, 0, 0, {}};
  for (size_t k = 0; k < y.size(); ++k) {
    if (r.size[k] == 0) return true;
    const auto p = static_cast<size_t>(r.permutation[k]);
    int64_t from_start = r.from[p], to_start = r.to[k], size = r.size[k];
    if (block > 1 && k == 1) {
      const bool to_the_end = to_start + size == y[1] && from_start + size == x[1];
      if (r.step[k] != 1 || from_start % block != 0 || to_start % block != 0 || (size % block != 0 && !to_the_end))
        return false;
      from_start /= block, to_start /= block;
      size = (size + block - 1) / block;
    }
    box.from_offset += from_start * from[p];
    box.to_offset += to_start * to[k];
    const int64_t repeat = r.repeat.empty() ? 1 : r.repeat[k];
    if (block > 1 && k == 1 && repeat > 1) return false;
    box.axes.push_back({size, from[p] * r.step[k], to[k] * repeat});
    box.axes.push_back({repeat, 0, to[k]});
  }
  if (block > 1) box.axes.push_back({block, 1, 1});
  simplify(box);
  moves.boxes.push_back(std::move(box));
  return true;
}

Dims iota(size_t n) {
  Dims v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<int64_t>(i);
  return v;
}

Region whole(const Dims& x) {
  const Dims zeros(x.size(), 0), ones(x.size(), 1);
  return {.input = 0, .from = zeros, .to = zeros, .size = x, .step = ones, .permutation = iota(x.size())};
}

bool all_constant_after(const LowerContext& c, size_t first) {
  for (size_t i = first; i < c.node.inputs.size(); ++i)
    if (c.has_input(i) && !c.is_constant(i)) return false;
  return true;
}

std::vector<int64_t> ints_of(const LowerContext& c, size_t input, const char* attribute) {
  return c.has_input(input) ? to_ints(c.constant(input)) : c.node.integers(attribute);
}

// Slice with constant bounds: ONNX clamps them to the tensor.
Region slice_region(const LowerContext& c) {
  const Dims x = c.input_dims(0);
  Region r = whole(x);
  r.size = c.output_dims();
  const auto starts = ints_of(c, 1, "starts");
  auto axes = ints_of(c, 3, "axes");
  const auto steps = c.has_input(4) ? to_ints(c.constant(4)) : std::vector<int64_t>(starts.size(), 1);
  if (axes.empty()) axes = iota(starts.size());
  for (size_t i = 0; i < starts.size(); ++i) {
    const auto axis = static_cast<size_t>(normalize_axis(axes[i], static_cast<int64_t>(x.size()), c.node.label()));
    const int64_t n = x[axis], step = steps[i];
    int64_t start = starts[i] < 0 ? starts[i] + n : starts[i];
    start = step > 0 ? std::clamp<int64_t>(start, 0, n) : std::clamp<int64_t>(start, 0, n - 1);
    r.from[axis] = start;
    r.step[axis] = step;
  }
  return r;
}

std::optional<std::vector<Region>> pad_regions(const LowerContext& c, uint64_t& fill) {
  if (c.node.text("mode", "constant") != "constant") return std::nullopt;
  const Dims x = c.input_dims(0);
  const auto rank = static_cast<int64_t>(x.size());
  const auto given = ints_of(c, 1, "pads");
  auto axes = c.has_input(3) ? to_ints(c.constant(3)) : iota(x.size());
  Dims begin(x.size(), 0), end(x.size(), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(normalize_axis(axes[i], rank, c.node.label()));
    begin[axis] = given[i];
    end[axis] = given[i + axes.size()];
  }
  Region r = whole(x);
  for (size_t k = 0; k < x.size(); ++k) {  // negative pads crop
    r.from[k] = std::max<int64_t>(-begin[k], 0);
    r.to[k] = std::max<int64_t>(begin[k], 0);
    r.size[k] = std::max<int64_t>(x[k] - r.from[k] - std::max<int64_t>(-end[k], 0), 0);
  }
  if (c.has_input(2))
    std::memcpy(&fill, c.constant(2).raw(), std::min<size_t>(c.constant(2).bytes(), sizeof fill));
  else if (c.node.has("value")) {
    const float value = c.node.real("value", 0);
    if (value != 0 && c.input_dtype(0) != DType::kFloat32) return std::nullopt;
    std::memcpy(&fill, &value, sizeof value);
  }
  return std::vector<Region>{r};
}

std::vector<Region> concat_regions(const LowerContext& c) {
  const Dims y = c.output_dims();
  const auto axis =
      static_cast<size_t>(normalize_axis(c.node.integer("axis", 1), static_cast<int64_t>(y.size()), c.node.label()));
  std::vector<Region> regions;
  int64_t at = 0;
  for (size_t i = 0; i < c.node.inputs.size(); ++i) {
    Region r = whole(c.input_dims(i));
    r.input = static_cast<int64_t>(i);
    r.to[axis] = at;
    at += r.size[axis];
    regions.push_back(std::move(r));
  }
  return regions;
}

Region expand_region(const LowerContext& c) {
  Dims x = c.input_dims(0);
  const Dims y = c.output_dims();
  Region r = whole(y);
  while (x.size() < y.size()) x.insert(x.begin(), 1);
  for (size_t k = 0; k < y.size(); ++k)
    if (x[k] != y[k]) r.step[k] = 0;
  return r;
}

// Whether the nearest value, of an axis that grows `times`-fold, is that at index / times.
bool repeats(const Node& n, bool modern, int64_t times) {
  const std::string coordinates = n.text("coordinate_transformation_mode", modern ? "half_pixel" : "asymmetric"),
                    nearest = n.text("nearest_mode", modern ? "round_prefer_floor" : "floor");
  if (coordinates == "half_pixel") return nearest == "round_prefer_floor" || nearest == "round_prefer_ceil";
  return coordinates == "asymmetric" && (nearest == "floor" || (nearest == "round_prefer_floor" && times <= 2));
}

// Resize and Upsample to the nearest, where every axis grows by a whole number.
std::optional<std::vector<Region>> resize_region(const LowerContext& c) {
  const Node& n = c.node;
  const bool modern = n.is("Resize") && c.graph.opset() >= 11;
  if (n.text("mode", "nearest") != "nearest" || n.integer("antialias", 0) != 0) return std::nullopt;
  if (n.text("keep_aspect_ratio_policy", "stretch") != "stretch") return std::nullopt;
  const Dims x = c.input_dims(0), y = c.output_dims();
  Region r = whole(x);
  for (size_t k = 0; k < x.size(); ++k) {
    if (x[k] == 0 || y[k] % x[k] != 0) return std::nullopt;
    r.repeat.push_back(y[k] / x[k]);
    if (r.repeat[k] > 1 && !repeats(n, modern, r.repeat[k])) return std::nullopt;
  }
  std::vector<float> scales;  // one that is no whole number may make such sizes too
  const size_t at = modern ? 2 : 1;
  if (c.has_input(at))
    scales = to_floats(c.constant(at));  // empty where there are sizes
  else
    scales = n.reals("scales");
  std::vector<int64_t> axes = n.integers("axes", iota(x.size()));
  if (!scales.empty() && scales.size() != axes.size()) return std::nullopt;
  for (size_t i = 0; i < scales.size(); ++i) {
    const auto axis = static_cast<size_t>(normalize_axis(axes[i], static_cast<int64_t>(x.size()), n.label()));
    if (scales[i] != static_cast<float>(r.repeat[axis])) return std::nullopt;
  }
  return std::vector<Region>{r};
}

// The regions of the node, or nothing when it is not one we know. Building only.
std::optional<std::vector<Region>> regions_of(const LowerContext& c, uint64_t& fill) {
  const Node& n = c.node;
  if (n.is("Concat")) return concat_regions(c);
  if (!all_constant_after(c, 1)) return std::nullopt;
  if (n.is("Slice")) return std::vector<Region>{slice_region(c)};
  if (n.is("Pad")) return pad_regions(c, fill);
  if (n.is("Expand")) return std::vector<Region>{expand_region(c)};
  if (n.is("Resize") || n.is("Upsample")) return resize_region(c);
  if (n.is("Transpose")) {
    Region r = whole(c.input_dims(0));
    Dims reversed = r.permutation;
    std::reverse(reversed.begin(), reversed.end());
    r.permutation = n.integers("perm", reversed);
    r.size = c.output_dims();
    return std::vector<Region>{r};
  }
  return std::nullopt;
}

Dims padded_to(Dims dims, size_t rank) {
  while (dims.size() < rank) dims.insert(dims.begin(), 1);
  return dims;
}

std::optional<Moves> moves_of(const LowerContext& c, Layout layout) {
  Moves moves;
  const auto regions = regions_of(c, moves.fill);
  if (!regions) return std::nullopt;
  const Dims y = c.output_dims();
  moves.fills = c.node.is("Pad") || channel_block(layout) > 1;
  for (const Region& r : *regions)
    if (!append_box(r, layout, padded_to(c.input_dims(static_cast<size_t>(r.input)), y.size()), y, moves))
      return std::nullopt;
  return moves;
}

// As int64: fills, fill, number of boxes, then each box.
Blob encode(const Moves& moves) {
  std::vector<int64_t> words = {moves.fills, static_cast<int64_t>(moves.fill),
                                static_cast<int64_t>(moves.boxes.size())};
  for (const Box& box : moves.boxes) {
    words.insert(words.end(), {box.input, box.from_offset, box.to_offset, static_cast<int64_t>(box.axes.size())});
    for (const Axis& a : box.axes) words.insert(words.end(), {a.size, a.from_stride, a.to_stride});
  }
  return copy_blob(words.data(), words.size() * sizeof(int64_t));
}

[[noreturn]] void fail_damaged(const Node& node) {
  fail(ErrorCode::kInvalidModel, "A plan's list of copies is damaged; build the plan again: {}", node.label());
}

class MovementKernel : public Kernel {
 public:
  MovementKernel(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs)
      : element_bytes_(static_cast<size_t>(bits_of(c.output_dtype()) / 8)),
        output_bytes_(layout_bytes(candidate.outputs[0], c.output_dtype(), c.output_dims())) {
    if (blobs.empty() || blobs[0].size() < 3 * sizeof(int64_t)) fail_damaged(c.node);
    const std::span<const int64_t> words(reinterpret_cast<const int64_t*>(blobs[0].data()),
                                         blobs[0].size() / sizeof(int64_t));
    size_t at = 0;
    const auto next = [&] {
      if (at >= words.size()) fail_damaged(c.node);
      return words[at++];
    };
    moves_.fills = next() != 0;
    moves_.fill = static_cast<uint64_t>(next());
    const int64_t boxes = next();
    if (boxes < 0 || boxes > static_cast<int64_t>(words.size())) fail_damaged(c.node);
    const int64_t to_limit = element_count(physical_dims(candidate.outputs[0], c.output_dims()));
    size_t next_blob = 1;
    for (size_t i = 0; i < c.node.inputs.size(); ++i) {
      constants_.push_back(nullptr);
      if (i > 0 && !c.node.is("Concat")) break;
      if (c.is_constant(i))
        constants_.back() =
            require_blob(blobs, next_blob++, bytes_of(c.input_dtype(i), element_count(c.input_dims(i)))).data();
    }
    for (int64_t b = 0; b < boxes; ++b) {
      Box box{next(), next(), next(), {}};
      const int64_t axes = next();
      if (box.input < 0 || box.input >= static_cast<int64_t>(constants_.size()) || axes < 0 || axes > 16)
        fail_damaged(c.node);
      const auto input = static_cast<size_t>(box.input);
      const int64_t from_limit = element_count(physical_dims(candidate.inputs[input], c.input_dims(input)));
      int64_t from[2] = {box.from_offset, box.from_offset}, to[2] = {box.to_offset, box.to_offset};
      constexpr int64_t kBound = int64_t{1} << 40;
      for (int64_t a = 0; a < axes; ++a) {
        const Axis axis{next(), next(), next()};
        if (axis.size < 1 || axis.size > kBound || std::abs(axis.from_stride) > kBound ||
            std::abs(axis.to_stride) > kBound ||
            (axis.size - 1) > kBound / std::max<int64_t>({std::abs(axis.from_stride), std::abs(axis.to_stride), 1}))
          fail_damaged(c.node);
        from[axis.from_stride < 0 ? 0 : 1] += (axis.size - 1) * axis.from_stride;
        to[axis.to_stride < 0 ? 0 : 1] += (axis.size - 1) * axis.to_stride;
        box.axes.push_back(axis);
      }
      if (from[0] < 0 || from[1] >= from_limit || to[0] < 0 || to[1] >= to_limit) fail_damaged(c.node);
      moves_.boxes.push_back(std::move(box));
    }
  }

  void run(const KernelArgs& args) const override {
    switch (element_bytes_) {
      case 1:
        return copy_all<uint8_t>(args);
      case 2:
        return copy_all<uint16_t>(args);
      case 4:
        return copy_all<uint32_t>(args);
      default:
        return copy_all<uint64_t>(args);
    }
  }

 private:
  template <typename T>
  void copy_all(const KernelArgs& args) const {
    T* to = static_cast<T*>(args.outputs[0]);
    if (moves_.fills) std::fill_n(to, output_bytes_ / sizeof(T), static_cast<T>(moves_.fill));
    for (const Box& box : moves_.boxes) {
      const auto input = static_cast<size_t>(box.input);
      const T* from = static_cast<const T*>(constants_[input] ? constants_[input] : args.inputs[input]);
      copy_box(box, from + box.from_offset, to + box.to_offset, args.threads);
    }
  }

  template <typename T>
  static void copy_box(const Box& box, const T* from, T* to, int threads) {
    if (box.axes.empty()) {
      *to = *from;
      return;
    }
    const Axis& outer = box.axes[0];
    int64_t inner = 1;
    for (size_t i = 1; i < box.axes.size(); ++i) inner *= box.axes[i].size;
    parallel_for(
        outer.size, threads,
        [&](int64_t begin, int64_t end) {
          if (box.axes.size() == 1) {
            copy_line(from + begin * outer.from_stride, to + begin * outer.to_stride,
                      {end - begin, outer.from_stride, outer.to_stride});
            return;
          }
          for (int64_t i = begin; i < end; ++i)
            copy_inner(box, 1, from + i * outer.from_stride, to + i * outer.to_stride);
        },
        std::max<int64_t>(1, (int64_t{1} << 14) / std::max<int64_t>(inner, 1)));
  }

  template <typename T>
  static void copy_inner(const Box& box, size_t depth, const T* from, T* to) {
    const Axis& axis = box.axes[depth];
    if (depth + 1 == box.axes.size()) return copy_line(from, to, axis);
    if (const Axis& last = box.axes[depth + 1];
        depth + 2 == box.axes.size() && last.from_stride == 0 && last.to_stride == 1) {
      for (int64_t i = 0; i < axis.size; ++i)
        std::fill_n(to + i * axis.to_stride, last.size, from[i * axis.from_stride]);
      return;
    }
    for (int64_t i = 0; i < axis.size; ++i)
      copy_inner(box, depth + 1, from + i * axis.from_stride, to + i * axis.to_stride);
  }

  template <typename T>
  static void copy_line(const T* from, T* to, const Axis& axis) {
    if (axis.from_stride == 1 && axis.to_stride == 1) {
      std::memcpy(to, from, static_cast<size_t>(axis.size) * sizeof(T));
      return;
    }
    for (int64_t i = 0; i < axis.size; ++i) to[i * axis.to_stride] = from[i * axis.from_stride];
  }

  Moves moves_;
  size_t element_bytes_, output_bytes_;
  std::vector<const std::byte*> constants_;
};

class ViewKernel : public Kernel {
 public:
  explicit ViewKernel(size_t bytes) : bytes_(bytes) {}
  void run(const KernelArgs& args) const override {
    if (args.inputs[0] != args.outputs[0]) std::memcpy(args.outputs[0], args.inputs[0], bytes_);
  }

 private:
  size_t bytes_;
};

// The pairs of layouts whose bytes are the same before and after a node that keeps or permutes the elements.
std::vector<std::pair<Layout, Layout>> view_layouts(const LowerContext& c) {
  const Dims x = c.input_dims(0), y = c.output_dims();
  if (c.node.is("Transpose")) {
    const auto perm = c.node.integers("perm");
    if (perm == std::vector<int64_t>{0, 3, 1, 2}) return {{Layout::kPlain, Layout::kNhwc}};
    if (perm == std::vector<int64_t>{0, 2, 3, 1}) return {{Layout::kNhwc, Layout::kPlain}};
    return {};
  }
  const OpSpec* spec = find_op(c.graph, c.node);
  if (spec == nullptr || !spec->has(kViews)) return {};
  std::vector<std::pair<Layout, Layout>> pairs = {{Layout::kPlain, Layout::kPlain}};
  const auto is_vector = [](const Dims& d) { return d.size() == 4 && d[2] == 1 && d[3] == 1; };
  for (const Layout layout : {Layout::kNhwc, Layout::kBlocked8, Layout::kBlocked16}) {
    const int64_t block = channel_block(layout);
    const bool in = is_vector(x) && x[1] % block == 0, out = is_vector(y) && y[1] % block == 0;
    if (in) pairs.emplace_back(layout, Layout::kPlain);
    if (out) pairs.emplace_back(Layout::kPlain, layout);
    if (x == y && x.size() == 4) pairs.emplace_back(layout, layout);
  }
  return pairs;
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (c.node.inputs.empty() || bits_of(c.output_dtype()) < 8 || c.node.outputs.size() != 1) return;
  if (element_count(c.output_dims()) == 0) return;
  if (!c.is_constant(0) && c.has_input(0) && c.input_dtype(0) == c.output_dtype()) {
    for (const auto& [in, out] : view_layouts(c)) {
      Candidate candidate{.tactic = "movement", .variant = "view", .inplace_input = 0, .view = true};
      candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
      candidate.inputs[0] = in;
      candidate.outputs = {out};
      candidates.push_back(std::move(candidate));
    }
  }
  for (const Layout layout : kAllLayouts) {
    if (!layout_fits(layout, c.output_dims()) || !layout_fits(layout, c.input_dims(0))) continue;
    if (layout != Layout::kPlain && (c.node.is("Transpose") || c.node.is("Expand") || c.is_constant(0))) continue;
    if (!moves_of(c, layout)) continue;
    Candidate candidate{.tactic = "movement", .variant = "copy"};
    bool fits = true;
    for (size_t i = 0; i < c.node.inputs.size(); ++i) {
      const bool moved = i == 0 || c.node.is("Concat");
      if (layout != Layout::kPlain && moved && c.is_constant(i)) fits = false;
      candidate.inputs.push_back(moved ? layout : Layout::kPlain);
    }
    candidate.outputs = {layout};
    if (fits) candidates.push_back(std::move(candidate));
  }
}

std::vector<Blob> pack(const LowerContext& c, const Candidate& candidate) {
  std::vector<Blob> blobs;
  if (candidate.variant == "view") return blobs;
  blobs.push_back(encode(*moves_of(c, candidate.outputs[0])));
  for (size_t i = 0; i < c.node.inputs.size(); ++i)
    if ((i == 0 || c.node.is("Concat")) && c.is_constant(i)) blobs.push_back(share_blob(c.constant(i)));
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  if (candidate.variant != "view") return std::make_unique<MovementKernel>(c, candidate, blobs);
  if (c.is_constant(0)) fail_damaged(c.node);
  const size_t bytes = layout_bytes(candidate.outputs[0], c.output_dtype(), c.output_dims());
  if (layout_bytes(candidate.inputs[0], c.input_dtype(0), c.input_dims(0)) != bytes) fail_damaged(c.node);
  return std::make_unique<ViewKernel>(bytes);
}

}  // namespace

// What is moved is packed, bounds and the like are read while packing.
Tactic movement() {
  return {"movement", propose, pack, create, [](const Node&, size_t) { return true; }};
}

}  // namespace slipway
