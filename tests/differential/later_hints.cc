// Hints for operators that came with opset 16 and later, and for those of regions and losses: their operands fit each
// other in ways of their own.
#include "call_hints.h"
#include "call_hints_families.h"

namespace slipway {
namespace {

ValueId floats(Call& c, const Dims& dims) { return c.writer.like(DType::kFloat32, dims, 0.4); }

/// Whole numbers below `end`, any of which may be an index.
ValueId indices(Call& c, const Dims& dims, int64_t end) {
  std::vector<int64_t> values(static_cast<size_t>(element_count(dims)));
  for (int64_t& v : values) v = c.writer.between(0, end - 1);
  return c.writer.given(Tensor::of<int64_t>(dims, values));
}

template <typename T>
ValueId scalar(Call& c, T value) {
  return c.writer.constant(Tensor::scalar<T>(value));
}

void bits(Call& c) {
  GraphWriter& w = c.writer;
  const std::vector<DType> types = {DType::kInt32, DType::kInt64, DType::kUint8, DType::kInt8};
  const DType dtype = w.any(types);
  Dims dims = w.random_dims(w.any({0, 1, 2, 4}));
  c.inputs = {w.like(dtype, dims)};
  if (c.spec.min_inputs < 2) return;
  for (int64_t& d : dims)
    if (w.chance(0.3)) d = 1;
  c.inputs.push_back(w.like(dtype, dims));
}

void bit_cast(Call& c) {
  c.inputs = {floats(c, c.writer.random_dims(c.writer.any({0, 1, 2, 4})))};
  c.attributes = {{"to", static_cast<int64_t>(c.writer.chance(0.5) ? DType::kInt32 : DType::kUint32)}};
}

void cumulative(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t rank = w.any({1, 2, 3});
  c.inputs = {floats(c, w.random_dims(rank)), scalar<int64_t>(c, w.between(-rank, rank - 1))};
  c.attributes = {{"exclusive", w.between(0, 1)}, {"reverse", w.between(0, 1)}};
}

void attention(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t batch = w.between(1, 2), heads = w.between(1, 2), group = w.between(1, 2), length = w.between(1, 4),
                keys = w.between(1, 5), past = w.any({0, 0, 3}), size = w.any({1, 4}), width = w.any({1, 4});
  c.inputs = {floats(c, {batch, heads * group, length, size}), floats(c, {batch, heads, keys, size}),
              floats(c, {batch, heads, keys, width})};
  if (w.chance(0.5))
    c.operand(3, w.chance(0.7) ? floats(c, {length, keys + past}) : w.fresh(DType::kBool, {length, keys + past}, 0.5));
  if (past > 0) {
    c.operand(4, floats(c, {batch, heads, past, size}));
    c.operand(5, floats(c, {batch, heads, past, width}));
  }
  c.attributes = {};
  if (w.chance(0.4)) c.attributes["is_causal"] = int64_t{1};
  if (w.chance(0.2)) c.attributes["scale"] = 0.5f;
  if (w.chance(0.2)) c.attributes["softcap"] = 1.5f;
  c.outputs = past > 0 || w.chance(0.2) ? 3 : 1;
}

void rotate(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t batch = w.between(1, 2), length = w.between(1, 4), half = w.any({1, 2, 4});
  c.inputs = {floats(c, {batch, w.between(1, 3), length, 2 * half}), floats(c, {batch, length, half}),
              floats(c, {batch, length, half})};
  c.attributes = {{"interleaved", w.between(0, 1)}};
}

void scatter_into_cache(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t batch = w.between(1, 2), size = w.between(2, 5), count = w.between(1, 2), width = w.between(1, 4);
  c.inputs = {floats(c, {batch, 1, size, width}), floats(c, {batch, 1, count, width}),
              indices(c, {batch}, size - count + 1)};
  c.attributes = {};
}

void columns_to_image(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t h = w.between(2, 5), width = w.between(2, 5), kh = w.between(1, 2), kw = w.between(1, 2);
  c.inputs = {floats(c, {w.between(1, 2), w.between(1, 3) * kh * kw, (h - kh + 1) * (width - kw + 1)}),
              w.constant_ints({h, width}), w.constant_ints({kh, kw})};
  c.attributes = {};
}

void fourier(Call& c) {
  GraphWriter& w = c.writer;
  c.inputs = {floats(c, {w.between(1, 2), w.between(1, 8), w.any({1, 2})})};
  c.attributes = {};
  if (w.style.opset < 20) c.attributes["axis"] = int64_t{1};
  if (w.chance(0.3)) c.attributes["inverse"] = int64_t{1};
}

void short_fourier(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t frame = w.between(2, 4);
  c.inputs = {floats(c, {w.between(1, 2), frame + w.between(0, 6), 1}), scalar<int64_t>(c, w.between(1, 3)),
              floats(c, {frame})};
  c.attributes = {{"onesided", w.between(0, 1)}};
}

void mel(Call& c) {
  GraphWriter& w = c.writer;
  c.inputs = {scalar<int64_t>(c, w.between(2, 6)), scalar<int64_t>(c, 16), scalar<int64_t>(c, 8000),
              scalar<float>(c, 0), scalar<float>(c, 4000)};
  c.attributes = {};
}

void affine_grid(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t batch = w.between(1, 2);
  c.inputs = {floats(c, {batch, 2, 3}), w.constant_ints({batch, 1, w.between(2, 4), w.between(2, 4)})};
  c.attributes = {{"align_corners", w.between(0, 1)}};
}

void deformed(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t batch = w.between(1, 2), in = w.between(1, 3), kernel = w.between(1, 2), h = w.between(3, 5),
                width = w.between(3, 5);
  c.inputs = {floats(c, {batch, in, h, width}), w.weight(DType::kFloat32, {w.between(1, 3), in, kernel, kernel}, 0),
              floats(c, {batch, 2 * kernel * kernel, h - kernel + 1, width - kernel + 1})};
  c.attributes = {};
}

void roi_pool(Call& c) {
  GraphWriter& w = c.writer;
  c.inputs = {floats(c, {1, w.between(1, 3), 5, 6}),
              w.constant(Tensor::of<float>({2, 5}, {0, 0, 0, 3, 3, 0, 1, 2, 5, 4}))};
  c.attributes = {{"pooled_shape", std::vector<int64_t>{w.between(1, 2), w.between(1, 2)}}};
}

void roi_align(Call& c) {
  GraphWriter& w = c.writer;
  c.inputs = {floats(c, {2, w.between(1, 3), 5, 6}), w.constant(Tensor::of<float>({2, 4}, {0, 0, 3, 3, 1, 2, 5, 4})),
              indices(c, {2}, 2)};
  c.attributes = {{"output_height", w.between(1, 2)}, {"output_width", w.between(1, 2)}};
}

void unpool(Call& c) {
  c.inputs = {floats(c, {1, 1, 2, 2}), c.writer.given(Tensor::of<int64_t>({1, 1, 2, 2}, {0, 3, 9, 14}))};
  c.attributes = {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}};
}

void crop(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t rank = w.between(1, 4);
  std::vector<int64_t> sizes(static_cast<size_t>(rank));
  for (int64_t& size : sizes) size = w.between(1, 6);
  c.inputs = {floats(c, w.random_dims(rank)), w.constant_ints(sizes)};
  c.attributes = {};
}

void loss(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t batch = w.between(1, 3), classes = w.between(1, 4), places = w.between(1, 3);
  c.inputs = {floats(c, {batch, classes, places}), indices(c, {batch, places}, classes)};
  if (w.chance(0.3)) c.operand(2, floats(c, {classes}));
  const std::vector<std::string> reductions = {"none", "sum", "mean"};
  c.attributes = {{"reduction", w.any(reductions)}};
}

constexpr CallHint kLater[] = {
    {"BitwiseAnd", 0, 5, bits},
    {"BitwiseOr", 0, 5, bits},
    {"BitwiseXor", 0, 5, bits},
    {"BitwiseNot", 0, 5, bits},
    {"BitCast", 0, 5, bit_cast},
    {"CumProd", 0, 5, cumulative},
    {"Attention", 0, 5, attention},
    {"RotaryEmbedding", 0, 5, rotate},
    {"TensorScatter", 0, 5, scatter_into_cache},
    {"Col2Im", 0, 5, columns_to_image},
    {"CenterCropPad", 0, 5, crop},
    {"DFT", 0, 5, fourier},
    {"STFT", 0, 5, short_fourier},
    {"MelWeightMatrix", 0, 5, mel},
    {"AffineGrid", 0, 5, affine_grid},
    {"DeformConv", 0, 5, deformed},
    {"MaxRoiPool", 0, 5, roi_pool},
    {"RoiAlign", 0, 5, roi_align},
    {"MaxUnpool", 0, 5, unpool},
    {"NegativeLogLikelihoodLoss", 0, 5, loss},
    {"SoftmaxCrossEntropyLoss", 0, 5, loss},
};

}  // namespace

std::span<const CallHint> later_hints() { return kLater; }

}  // namespace slipway
