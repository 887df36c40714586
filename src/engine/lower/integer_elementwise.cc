// 8-bit operators other than convolution: quantise and dequantise at the borders, additions, tables and pools.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "engine/kernels/int8_ops.h"
#include "engine/lower/integer.h"
#include "model/op.h"
#include "model/ops/window.h"

namespace slipway {

bool is_int8(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kUint8; }

CodeRange code_range(const Graph& graph, ValueId id) {
  const Value& v = graph.value(id);
  CodeRange full = v.dtype == DType::kUint8 ? CodeRange{0, 255} : CodeRange{-128, 127};
  const Node* n = graph.producer(id);
  for (int depth = 0; n != nullptr && depth < 64; ++depth) {
    if (n->has("y_lo") && n->has("y_hi"))
      return {std::max<int32_t>(full.lo, static_cast<int32_t>(n->integer("y_lo", full.lo))),
              std::min<int32_t>(full.hi, static_cast<int32_t>(n->integer("y_hi", full.hi)))};
    const OpSpec* spec = find_op(graph, *n);
    if (n->is("Pad") || n->inputs.empty() ||
        !(n->is("MaxPool") || (spec != nullptr && (spec->has(kViews) || spec->has(kMovesOnly)))))
      return full;
    if (n->is("Concat")) {
      CodeRange joined{full.hi, full.lo};
      for (ValueId input : n->inputs) {
        if (depth > 8 || graph.value(input).is_constant()) return full;
        const CodeRange r = code_range(graph, input);
        joined = {std::min(joined.lo, r.lo), std::max(joined.hi, r.hi)};
      }
      return joined;
    }
    if (graph.value(n->inputs[0]).is_constant() || !is_int8(graph.value(n->inputs[0]).dtype)) return full;
    n = graph.producer(n->inputs[0]);
  }
  return full;
}

Int8Encoding input_encoding(const LowerContext& c, size_t i, int64_t zero_point, CodeRange range) {
  return {c.input_dtype(i) == DType::kUint8 ? Int8Type::kU8 : Int8Type::kS8, static_cast<int32_t>(zero_point), range.lo,
          range.hi};
}

Int8Encoding output_encoding(const Node& node) {
  const bool u8 = node.text("y_dtype", "i8") == "u8";
  return {u8 ? Int8Type::kU8 : Int8Type::kS8, static_cast<int32_t>(node.integer("y_zero_point", 0)),
          static_cast<int32_t>(node.integer("y_lo", u8 ? 0 : -128)),
          static_cast<int32_t>(node.integer("y_hi", u8 ? 255 : 127))};
}

namespace {

constexpr CodeRange full_range(bool u8) { return u8 ? CodeRange{0, 255} : CodeRange{-128, 127}; }

Int8Encoding encoding(DType dtype, int64_t zero_point) {
  const bool u8 = dtype == DType::kUint8;
  const CodeRange r = full_range(u8);
  return {u8 ? Int8Type::kU8 : Int8Type::kS8, static_cast<int32_t>(zero_point), r.lo, r.hi};
}

ImageShape image_of(const Dims& d) { return {d[0], d[2], d[3], d[1]}; }

enum class Kind { kQuantize, kDequantize, kAdd, kLookup, kMaxPool, kAveragePool };

std::optional<Kind> kind_of(const LowerContext& c) {
  const Node& n = c.node;
  if (n.is("QuantizeLinear") && c.input_dtype(0) == DType::kFloat32 && is_int8(c.output_dtype()))
    return Kind::kQuantize;
  if (n.is("DequantizeLinear") && is_int8(c.input_dtype(0)) && c.output_dtype() == DType::kFloat32)
    return Kind::kDequantize;
  if (n.is_fused("QAdd")) return Kind::kAdd;
  if (n.is_fused("QLookup")) return Kind::kLookup;
  if (n.is("MaxPool") && is_int8(c.input_dtype(0))) return Kind::kMaxPool;
  if (n.is_fused("QAveragePool")) return Kind::kAveragePool;
  return std::nullopt;
}

// Scale and zero point of QuantizeLinear and DequantizeLinear, as two floats in a blob; the table of QLookup is one
// too.
struct Affine {
  float scale, zero_point;
};

QPool pool_of(const LowerContext& c, Kind kind) {
  const Dims x = c.input_dims(0), y = c.output_dims();
  const bool global = c.node.integer("global", 0) != 0;
  QPool pool{.x = image_of(x), .oh = y[2], .ow = y[3]};
  if (global) {
    pool.kh = x[2];
    pool.kw = x[3];
  } else {
    const Window w = pool_window(c.node, x);
    pool.kh = w.kernel[0], pool.kw = w.kernel[1];
    pool.stride_h = w.strides[0], pool.stride_w = w.strides[1];
    pool.pad_top = w.pads_begin[0], pool.pad_left = w.pads_begin[1];
    pool.dilation_h = w.dilations[0], pool.dilation_w = w.dilations[1];
    pool.count_include_pad = c.node.integer("count_include_pad", 0) != 0;
  }
  pool.in = encoding(c.input_dtype(0), c.node.integer("x_zero_point", 0));
  pool.out = kind == Kind::kMaxPool ? pool.in : output_encoding(c.node);
  pool.multiplier = c.node.real("multiplier", 1);
  return pool;
}

QAdd add_of(const LowerContext& c) {
  const Node& n = c.node;
  return {.a = encoding(c.input_dtype(0), n.integer("a_zero_point", 0)),
          .b = encoding(c.input_dtype(1), n.integer("b_zero_point", 0)),
          .y = output_encoding(n),
          .a_multiplier = n.real("a_multiplier", 1),
          .b_multiplier = n.real("b_multiplier", 1)};
}

class IntegerKernel : public Kernel {
 public:
  IntegerKernel(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs)
      : kind_(*kind_of(c)), count_(element_count(c.output_dims())) {
    changes_layout_ = candidate.inputs[0] != candidate.outputs[0];
    if (changes_layout_) image_ = image_of(c.output_dims());
    if (kind_ == Kind::kQuantize || kind_ == Kind::kDequantize) {
      std::memcpy(&affine_, require_blob(blobs, 0, sizeof affine_).data(), sizeof affine_);
      encoding_ = encoding(kind_ == Kind::kQuantize ? c.output_dtype() : c.input_dtype(0),
                           static_cast<int64_t>(affine_.zero_point));
    }
    if (kind_ == Kind::kLookup) std::memcpy(table_.data(), require_blob(blobs, 0, 256).data(), 256);
    if (kind_ == Kind::kAdd) add_ = add_of(c);
    if (kind_ == Kind::kMaxPool || kind_ == Kind::kAveragePool) pool_ = pool_of(c, kind_);
  }

  void run(const KernelArgs& args) const override {
    const void* x = args.inputs[0];
    void* y = args.outputs[0];
    switch (kind_) {
      case Kind::kQuantize:
        if (changes_layout_)
          quantize_nchw_to_nhwc(static_cast<const float*>(x), y, image_, affine_.scale, encoding_, args.threads);
        else
          quantize(static_cast<const float*>(x), y, count_, affine_.scale, encoding_, args.threads);
        return;
      case Kind::kDequantize:
        if (changes_layout_)
          dequantize_nhwc_to_nchw(x, static_cast<float*>(y), image_, affine_.scale, encoding_, args.threads);
        else
          dequantize(x, static_cast<float*>(y), count_, affine_.scale, encoding_, args.threads);
        return;
      case Kind::kAdd:
        return qadd(add_, x, args.inputs[1], y, count_, args.threads);
      case Kind::kLookup:
        return lookup(table_.data(), x, y, count_, args.threads);
      case Kind::kMaxPool:
        return qmaxpool(pool_, x, y, args.threads);
      case Kind::kAveragePool:
        return qavgpool(pool_, x, y, args.threads);
    }
  }

 private:
  Kind kind_;
  int64_t count_;
  bool changes_layout_ = false;
  ImageShape image_;
  Affine affine_{1, 0};
  Int8Encoding encoding_;
  std::array<uint8_t, 256> table_{};
  QAdd add_;
  QPool pool_;
};

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  const auto kind = kind_of(c);
  if (!kind) return;
  const auto reject = [&](std::string why) { candidates.push_back({.tactic = "int8", .rejected = std::move(why)}); };
  if (element_count(c.output_dims()) == 0) return reject("an empty tensor");
  const bool affine = *kind == Kind::kQuantize || *kind == Kind::kDequantize;
  if (affine) {
    for (size_t i : {1, 2})
      if (c.has_input(i) && (!c.is_constant(i) || element_count(c.input_dims(i)) != 1))
        return reject("not one constant scale for the tensor");
  }
  if (*kind == Kind::kLookup && !c.is_constant(1)) return reject("the table is no constant");
  const bool pools = *kind == Kind::kMaxPool || *kind == Kind::kAveragePool;
  if (pools && (c.input_dims(0).size() != 4 || c.node.outputs.size() > 1))
    return reject("not two spatial dimensions, or indices are asked for");
  const auto add = [&](Layout in, Layout out) {
    Candidate candidate{.tactic = "int8", .variant = ""};
    candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
    candidate.inputs[0] = in;
    if (*kind == Kind::kAdd) candidate.inputs[1] = in;
    candidate.outputs = {out};
    if (*kind == Kind::kAdd || *kind == Kind::kLookup) candidate.inplace_input = 0;
    candidates.push_back(std::move(candidate));
  };
  const bool image = c.output_dims().size() == 4;
  if (image) add(Layout::kNhwc, Layout::kNhwc);
  if (image && *kind == Kind::kQuantize) add(Layout::kPlain, Layout::kNhwc);
  if (image && *kind == Kind::kDequantize) add(Layout::kNhwc, Layout::kPlain);
  if (!pools) add(Layout::kPlain, Layout::kPlain);
}

std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  std::vector<Blob> blobs;
  const Kind kind = *kind_of(c);
  if (kind == Kind::kLookup) {  // by the code's byte; the operator's table starts at the smallest code
    const std::byte* codes = c.constant(1).raw();
    std::vector<std::byte> table(codes, codes + c.constant(1).bytes());
    if (c.input_dtype(0) == DType::kInt8) std::rotate(table.begin(), table.begin() + 128, table.end());
    blobs.push_back(copy_blob(table.data(), table.size()));
  }
  if (kind == Kind::kQuantize || kind == Kind::kDequantize) {
    const Affine affine{to_floats(c.constant(1)).at(0), c.has_input(2) ? to_floats(c.constant(2)).at(0) : 0.0f};
    blobs.push_back(copy_blob(&affine, sizeof affine));
  }
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  if (!kind_of(c)) fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  return std::make_unique<IntegerKernel>(c, candidate, blobs);
}

}  // namespace

Tactic integer_elementwise() {
  return {"int8", propose, pack, create, [](const Node& n, size_t i) { return i > 0 && !n.is_fused("QAdd"); }};
}

}  // namespace slipway
