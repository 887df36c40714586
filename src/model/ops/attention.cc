// Scaled dot-product attention and what stands around it in a transformer: rotary embeddings and the cache of keys and
// values. Operands come as [batch, heads, length, size] or with the heads packed into the last axis, as [batch, length,
// heads · size]; both are unpacked to the first form. Every sum is in double, whatever softmax_precision asks for.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "model/ops/expand.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

constexpr double kMasked = -std::numeric_limits<double>::infinity();

// [batch, heads, length, size].
struct Heads {
  int64_t batch = 0, heads = 0, length = 0, size = 0;
  std::vector<double> values;
  const double* row(int64_t b, int64_t h, int64_t i) const {
    return values.data() + ((b * heads + h) * length + i) * size;
  }
  double* row(int64_t b, int64_t h, int64_t i) { return values.data() + ((b * heads + h) * length + i) * size; }
  Dims dims() const { return {batch, heads, length, size}; }
};

Heads zeros(int64_t batch, int64_t heads, int64_t length, int64_t size) {
  const int64_t count = bounded_count(Dims{batch, heads, length, size});
  return {batch, heads, length, size, std::vector<double>(static_cast<size_t>(count))};
}

int64_t packed_heads(const Node& node, std::string_view attribute, int64_t width) {
  const int64_t heads = node.integer(attribute, 0);
  if (heads < 1 || width % heads != 0)
    reject(node, fmt::format("{} {} does not divide the last axis of {}", attribute, heads, width));
  return heads;
}

Heads unpack(const EvalContext& ctx, size_t index, std::string_view attribute) {
  const Tensor& t = ctx.input(index);
  const Dims& d = t.dims();
  if (d.size() != 3 && d.size() != 4) ctx.reject(fmt::format("input {} has rank {}, not 3 or 4", index, d.size()));
  if (d.size() == 4) return {d[0], d[1], d[2], d[3], to_doubles(t)};
  const int64_t heads = packed_heads(ctx.node, attribute, d[2]);
  Heads h = zeros(d[0], heads, d[1], d[2] / heads);
  const std::vector<double> from = to_doubles(t);
  const double* row = from.data();
  for (int64_t b = 0; b < h.batch; ++b)
    for (int64_t i = 0; i < h.length; ++i)
      for (int64_t k = 0; k < heads; ++k, row += h.size) std::copy_n(row, h.size, h.row(b, k, i));
  return h;
}

// Back to the rank that the operands came with.
Tensor pack(const Heads& h, int64_t rank, DType dtype) {
  if (rank == 4) return from_doubles(dtype, h.dims(), h.values);
  std::vector<double> to;
  to.reserve(h.values.size());
  for (int64_t b = 0; b < h.batch; ++b)
    for (int64_t i = 0; i < h.length; ++i)
      for (int64_t k = 0; k < h.heads; ++k) to.insert(to.end(), h.row(b, k, i), h.row(b, k, i) + h.size);
  return from_doubles(dtype, {h.batch, h.length, h.heads * h.size}, to);
}

// The cache, then what comes in.
Heads behind(const EvalContext& ctx, size_t past, Heads now) {
  if (!ctx.has_input(past)) return now;
  const Dims& d = ctx.input(past).dims();
  if (d.size() != 4 || d[0] != now.batch || d[1] != now.heads || d[3] != now.size)
    ctx.reject(fmt::format("the cache {} does not fit {}", to_string(d), to_string(now.dims())));
  const Heads cache{d[0], d[1], d[2], d[3], to_doubles(ctx.input(past))};
  Heads all = zeros(now.batch, now.heads, cache.length + now.length, now.size);
  for (int64_t b = 0; b < now.batch; ++b)
    for (int64_t h = 0; h < now.heads; ++h) {
      double* to = all.row(b, h, 0);
      to = std::copy_n(cache.row(b, h, 0), cache.length * now.size, to);
      std::copy_n(now.row(b, h, 0), now.length * now.size, to);
    }
  return all;
}

void require_pair(const EvalContext& ctx, const Heads& q, const Heads& k, const Heads& v) {
  if (k.batch != q.batch || v.batch != q.batch || k.heads != v.heads || k.length != v.length || k.size != q.size)
    ctx.reject(fmt::format("query {}, key {} and value {} do not go together", to_string(q.dims()), to_string(k.dims()),
                           to_string(v.dims())));
  if (k.heads < 1 || q.heads % k.heads != 0)
    ctx.reject(fmt::format("{} heads of queries can't share {} heads of keys", q.heads, k.heads));
}

// Query rows times key rows; consecutive query heads share a key head.
Heads scores_of(const Heads& q, const Heads& k, double scale) {
  Heads s = zeros(q.batch, q.heads, q.length, k.length);
  const int64_t group = q.heads / k.heads;
  for (int64_t b = 0; b < q.batch; ++b)
    for (int64_t h = 0; h < q.heads; ++h)
      for (int64_t i = 0; i < q.length; ++i)
        for (int64_t j = 0; j < k.length; ++j) {
          const double *left = q.row(b, h, i), *right = k.row(b, h / group, j);
          double sum = 0;
          for (int64_t c = 0; c < q.size; ++c) sum += left[c] * right[c];
          s.row(b, h, i)[j] = sum * scale;
        }
  return s;
}

void softmax_rows(Heads& s) {
  if (s.size == 0) return;
  for (size_t start = 0; start < s.values.size(); start += static_cast<size_t>(s.size)) {
    const auto row = std::span(s.values).subspan(start, static_cast<size_t>(s.size));
    const double most = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (double& v : row) sum += v = std::exp(v - most);
    for (double& v : row) v /= sum;
  }
}

Heads weighted(const Heads& p, const Heads& v) {
  Heads y = zeros(p.batch, p.heads, p.length, v.size);
  const int64_t group = p.heads / v.heads;
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.heads; ++h)
      for (int64_t i = 0; i < p.length; ++i)
        for (int64_t j = 0; j < v.length; ++j) {
          const double weight = p.row(b, h, i)[j];
          const double* from = v.row(b, h / group, j);
          double* to = y.row(b, h, i);
          for (int64_t c = 0; c < v.size; ++c) to[c] += weight * from[c];
        }
  return y;
}

double scale_of(const EvalContext& ctx, int64_t size) {
  const double usual = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(size, 1)));
  return ctx.node.has("scale") ? static_cast<double>(ctx.node.real("scale", 0)) : usual;
}

// What is added to the scores [batch, heads, length, total]. From opset 24 a mask may be shorter than the keys: what it
// does not reach is masked.
void add_mask(const EvalContext& ctx, Heads& s) {
  const Tensor& mask = ctx.input(3);
  std::vector<double> values = to_doubles(mask);
  if (mask.dtype() == DType::kBool)
    for (double& v : values) v = v != 0 ? 0.0 : kMasked;
  Dims to = s.dims(), from = mask.dims();
  if (ctx.opset >= 24 && !from.empty() && from.back() < s.size) to.back() = from.back();
  const std::vector<double> all = expand(ctx.node, from, values, to);
  const int64_t width = to.back();
  for (int64_t row = 0; row < s.batch * s.heads * s.length; ++row)
    for (int64_t j = 0; j < s.size; ++j)
      s.values[static_cast<size_t>(row * s.size + j)] +=
          j < width ? all[static_cast<size_t>(row * width + j)] : kMasked;
}

void mask_later(Heads& s, int64_t past) {
  for (int64_t row = 0; row < s.batch * s.heads * s.length; ++row)
    for (int64_t j = row % s.length + past + 1; j < s.size; ++j)
      s.values[static_cast<size_t>(row * s.size + j)] = kMasked;
}

void mask_padding(const EvalContext& ctx, Heads& s) {
  const std::vector<int64_t> lengths = to_ints(ctx.input(6));
  if (static_cast<int64_t>(lengths.size()) != s.batch)
    ctx.reject(fmt::format("nonpad_kv_seqlen has {} elements for a batch of {}", lengths.size(), s.batch));
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.length; ++i)
        for (int64_t j = std::max<int64_t>(lengths[static_cast<size_t>(b)], 0); j < s.size; ++j)
          s.row(b, h, i)[j] = kMasked;
}

void eval_attention(EvalContext& ctx) {
  const Tensor& query = ctx.input(0);
  const Heads q = unpack(ctx, 0, "q_num_heads");
  if (ctx.has_input(4) != ctx.has_input(5)) ctx.reject("past_key and past_value come together or not at all");
  const Heads k = behind(ctx, 4, unpack(ctx, 1, "kv_num_heads"));
  const Heads v = behind(ctx, 5, unpack(ctx, 2, "kv_num_heads"));
  require_pair(ctx, q, k, v);
  const int64_t mode = ctx.node.integer("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) ctx.reject(fmt::format("qk_matmul_output_mode is {}, not 0 to 3", mode));
  Heads s = scores_of(q, k, scale_of(ctx, q.size));
  const auto tell = [&](int64_t stage) {
    if (mode == stage && ctx.wants_output(3)) ctx.set_output(3, pack(s, 4, query.dtype()));
  };
  tell(0);
  if (const double cap = ctx.node.real("softcap", 0); cap > 0)
    for (double& score : s.values) score = std::tanh(score / cap) * cap;
  tell(1);
  if (ctx.has_input(3)) add_mask(ctx, s);
  if (ctx.node.integer("is_causal", 0) != 0) mask_later(s, ctx.has_input(4) ? ctx.input(4).dims()[2] : 0);
  if (ctx.has_input(6)) mask_padding(ctx, s);
  tell(2);
  softmax_rows(s);
  tell(3);
  ctx.set_output(0, pack(weighted(s, v), query.rank(), query.dtype()));
  ctx.set_output(1, pack(k, 4, ctx.input(1).dtype()));
  ctx.set_output(2, pack(v, 4, ctx.input(2).dtype()));
}

// What is known of an operand's axes in the form [batch, heads, length, size].
std::vector<Dim> unpacked(const InferContext& ctx, size_t index, std::string_view attribute) {
  const Shape& shape = ctx.shape(index);
  if (!shape.has_rank()) return std::vector<Dim>(4);
  if (shape.rank() == 4) return shape.dims();
  if (shape.rank() != 3) ctx.reject(fmt::format("input {} has rank {}, not 3 or 4", index, shape.rank()));
  const Dim& width = shape[2];
  const int64_t heads =
      width.is_known() ? packed_heads(ctx.node, attribute, width.value()) : ctx.node.integer(attribute, -1);
  const Dim known = heads > 0 ? Dim(heads) : Dim();
  return {shape[0], known, shape[1], width.is_known() ? Dim(width.value() / heads) : Dim()};
}

void infer_attention(InferContext& ctx) {
  const std::vector<Dim> q = unpacked(ctx, 0, "q_num_heads"), k = unpacked(ctx, 1, "kv_num_heads"),
                         v = unpacked(ctx, 2, "kv_num_heads");
  const Shape past = ctx.has_input(4) ? ctx.shape(4) : Shape({k[0], k[1], Dim(0), k[3]});
  const Dim total = past.rank() == 4 ? add(past[2], k[2]) : Dim();
  const Shape& query = ctx.shape(0);
  if (query.rank() == 4) ctx.set_output(0, ctx.dtype(0), Shape({q[0], q[1], q[2], v[3]}));
  if (query.rank() == 3) ctx.set_output(0, ctx.dtype(0), Shape({q[0], q[2], multiply(q[1], v[3])}));
  if (!query.has_rank()) ctx.set_output(0, ctx.dtype(0), Shape());
  ctx.set_output(1, ctx.dtype(1), Shape({k[0], k[1], total, k[3]}));
  ctx.set_output(2, ctx.dtype(2), Shape({v[0], v[1], total, v[3]}));
  ctx.set_output(3, ctx.dtype(0), Shape({q[0], q[1], q[2], total}));
}

double attention_flops(const CostContext& ctx) {
  const Dims &q = ctx.inputs[0], &v = ctx.inputs[2], &y = ctx.outputs[0];
  if (q.empty() || v.empty() || y.empty()) return 0;
  const double length = static_cast<double>(v.size() == 4 ? v[2] : v[1]);
  return 2 * length * static_cast<double>(element_count(q) + element_count(y));
}

// FlexAttention's subgraphs map scores to scores, in softmax_precision.
Heads modified(EvalContext& ctx, std::string_view attribute, DType precision, Heads s) {
  const auto it = ctx.node.attributes.find(attribute);
  if (it == ctx.node.attributes.end()) return s;
  const auto* graph = std::get_if<GraphPtr>(&it->second);
  if (graph == nullptr || !ctx.run_subgraph) ctx.reject(fmt::format("{} is no graph", attribute));
  const Tensor in = pack(s, 4, precision);
  const std::vector<Tensor> out = ctx.run_subgraph(**graph, std::span(&in, 1));
  if (out.size() != 1 || out[0].dims() != in.dims()) ctx.reject(fmt::format("{} changes the shape", attribute));
  s.values = to_doubles(out[0]);
  return s;
}

void eval_flex_attention(EvalContext& ctx) {
  for (size_t i = 0; i < 3; ++i)
    if (ctx.input(i).rank() != 4) ctx.reject(fmt::format("input {} has rank {}, not 4", i, ctx.input(i).rank()));
  const Heads q = unpack(ctx, 0, ""), k = unpack(ctx, 1, ""), v = unpack(ctx, 2, "");
  require_pair(ctx, q, k, v);
  const DType own = ctx.input(0).dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const int64_t asked = ctx.node.integer("softmax_precision", static_cast<int64_t>(own));
  if (asked < 0 || asked >= kDTypeCount || !is_float(static_cast<DType>(asked)))
    ctx.reject(fmt::format("softmax_precision is no float type: {}", asked));
  const auto precision = static_cast<DType>(asked);
  Heads s = modified(ctx, "score_mod", precision, scores_of(q, k, scale_of(ctx, q.size)));
  softmax_rows(s);
  s = modified(ctx, "prob_mod", precision, std::move(s));
  ctx.set_output(0, pack(weighted(s, v), 4, ctx.input(0).dtype()));
}

void infer_flex_attention(InferContext& ctx) {
  const Shape &q = ctx.shape(0), &v = ctx.shape(2);
  Shape y = Shape::with_rank(4);
  if (q.rank() == 4) y = Shape({q[0], q[1], q[2], v.rank() == 4 ? v[3] : Dim()});
  ctx.set_output(0, ctx.dtype(0), y);
}

void eval_rotary_embedding(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Heads h = unpack(ctx, 0, "num_heads");
  const int64_t asked = ctx.node.integer("rotary_embedding_dim", 0), turned = asked == 0 ? h.size : asked;
  if (turned < 0 || turned > h.size || turned % 2 != 0)
    ctx.reject(fmt::format("{} of {} elements of a head can't be turned in pairs", turned, h.size));
  const int64_t pairs = turned / 2;
  const Dims& cache = ctx.input(1).dims();
  const bool by_position = ctx.has_input(3);
  if (cache.size() != (by_position ? 2u : 3u) || cache.back() != pairs || ctx.input(2).dims() != cache ||
      (!by_position && (cache[0] != h.batch || cache[1] != h.length)))
    ctx.reject(fmt::format("the caches {} and {} do not fit {}", to_string(cache), to_string(ctx.input(2).dims()),
                           to_string(x.dims())));
  std::vector<int64_t> positions(static_cast<size_t>(h.batch * h.length));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i);
  if (by_position) {
    if (ctx.input(3).dims() != Dims{h.batch, h.length})
      ctx.reject(fmt::format("position_ids {} are not one a token", to_string(ctx.input(3).dims())));
    positions = to_ints(ctx.input(3));
    for (int64_t& p : positions) {
      if (p < -cache[0] || p >= cache[0]) ctx.reject(fmt::format("position {} is outside the cache", p));
      if (p < 0) p += cache[0];
    }
  }
  const std::vector<double> cosines = to_doubles(ctx.input(1)), sines = to_doubles(ctx.input(2));
  const bool interleaved = ctx.node.integer("interleaved", 0) != 0;
  for (int64_t b = 0; b < h.batch; ++b)
    for (int64_t k = 0; k < h.heads; ++k)
      for (int64_t i = 0; i < h.length; ++i) {
        double* row = h.row(b, k, i);
        const int64_t at = positions[static_cast<size_t>(b * h.length + i)] * pairs;
        for (int64_t c = 0; c < pairs; ++c) {
          double &real = row[interleaved ? 2 * c : c], &imaginary = row[interleaved ? 2 * c + 1 : c + pairs];
          const double cosine = cosines[static_cast<size_t>(at + c)], sine = sines[static_cast<size_t>(at + c)];
          const double turned_real = cosine * real - sine * imaginary;
          imaginary = sine * real + cosine * imaginary;
          real = turned_real;
        }
      }
  ctx.set_output(0, pack(h, x.rank(), x.dtype()));
}

// The update's slices along `axis` replace those of the cache from each sample's own index on.
void eval_tensor_scatter(EvalContext& ctx) {
  const Tensor &cache = ctx.input(0), &update = ctx.input(1);
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", -2), cache.rank(), ctx.node.label()));
  if (axis == 0) ctx.reject("axis is that of the batch");
  Dims expected = cache.dims();
  if (update.rank() == cache.rank()) expected[axis] = update.dims()[axis];
  if (update.dtype() != cache.dtype() || update.dims() != expected || expected[axis] > cache.dims()[axis])
    ctx.reject(
        fmt::format("the update {} does not fit the cache {}", to_string(update.dims()), to_string(cache.dims())));
  const std::string mode = ctx.node.text("mode", "linear");
  if (mode != "linear" && mode != "circular") ctx.reject(fmt::format("mode is neither linear nor circular: {}", mode));
  const int64_t batch = cache.dims()[0], size = cache.dims()[axis], count = expected[axis];
  std::vector<int64_t> starts(static_cast<size_t>(batch), 0);
  if (ctx.has_input(2)) starts = to_ints(ctx.input(2));
  if (static_cast<int64_t>(starts.size()) != batch)
    ctx.reject(fmt::format("{} write indices for a batch of {}", starts.size(), batch));
  const int64_t blocks = element_count(std::span(cache.dims()).subspan(1, axis - 1));
  const int64_t slice = element_count(std::span(cache.dims()).subspan(axis + 1));
  std::vector<int64_t> sources(static_cast<size_t>(cache.elements()));
  std::iota(sources.begin(), sources.end(), int64_t{0});
  for (int64_t b = 0; b < batch; ++b) {
    int64_t start = starts[static_cast<size_t>(b)];
    if (mode == "circular" && size > 0) start = (start % size + size) % size;
    if (start < 0 || (mode == "linear" && start > size - count))
      ctx.reject(fmt::format("write index {} leaves no room for {} of {}", start, count, size));
    for (int64_t block = b * blocks; block < (b + 1) * blocks; ++block)
      for (int64_t i = 0; i < count; ++i)
        for (int64_t k = 0; k < slice; ++k)
          sources[static_cast<size_t>((block * size + (start + i) % size) * slice + k)] =
              source_of(1, (block * count + i) * slice + k);
  }
  const std::array<const Tensor*, 2> pools = {&cache, &update};
  ctx.set_output(0, pick(pools, cache.dims(), sources));
}

constexpr OpSpec kAttentionOps[] = {
    {.name = "Attention",
     .since = 23,
     .min_inputs = 3,
     .max_inputs = 7,
     .max_outputs = 4,
     .infer = infer_attention,
     .eval = eval_attention,
     .flops = attention_flops},
    {.name = "FlexAttention",
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_flex_attention,
     .eval = eval_flex_attention,
     .flops = attention_flops,
     .traits = kHasSubgraph,
     .domain = "ai.onnx.preview"},
    {.name = "RotaryEmbedding",
     .since = 23,
     .min_inputs = 3,
     .max_inputs = 4,
     .infer = infer_same_as_first,
     .eval = eval_rotary_embedding,
     .flops = flops_each<3>},
    {.name = "TensorScatter",
     .since = 24,
     .min_inputs = 2,
     .max_inputs = 3,
     .infer = infer_same_as_first,
     .eval = eval_tensor_scatter},
};

}  // namespace

std::span<const OpSpec> attention_ops() { return kAttentionOps; }

}  // namespace slipway
