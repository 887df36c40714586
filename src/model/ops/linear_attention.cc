// Operators that carry a state from one call to the next: LinearAttention, whose state is a matrix a head, and
// CausalConvWithState, whose state is the last inputs. Both are run token by token, as they are defined; the chunks
// that LinearAttention's attribute speaks of are for those who compute it faster.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

struct HeadCounts {
  int64_t query = 0, key = 0;
};

HeadCounts head_counts(const Node& node) {
  const HeadCounts heads{node.integer("q_num_heads", 0), node.integer("kv_num_heads", 0)};
  if (heads.query < 1 || heads.key < 1 || heads.query % heads.key != 0)
    reject(node, fmt::format("q_num_heads {} is no multiple of kv_num_heads {}", heads.query, heads.key));
  return heads;
}

// [batch, length, heads · size], read in place.
struct PackedHeads {
  int64_t batch = 0, length = 0, size = 0, width = 0;
  std::vector<double> values = {};
  double* row(int64_t b, int64_t t, int64_t h) { return values.data() + (b * length + t) * width + h * size; }
};

PackedHeads packed(const EvalContext& ctx, size_t index, int64_t heads) {
  const Dims& d = ctx.input(index).dims();
  if (d.size() != 3 || d[2] % heads != 0)
    ctx.reject(fmt::format("input {} {} does not hold {} heads in its last of 3 axes", index, to_string(d), heads));
  return {d[0], d[1], d[2] / heads, d[2], to_doubles(ctx.input(index))};
}

// A gate's value for a head (or all heads) and, where it has them, each of the key's elements.
PackedHeads gate(const EvalContext& ctx, size_t index, const PackedHeads& key, std::initializer_list<int64_t> widths) {
  const Dims& d = ctx.input(index).dims();
  const bool fits = d.size() == 3 && d[0] == key.batch && d[1] == key.length &&
                    std::find(widths.begin(), widths.end(), d[2]) != widths.end();
  if (!fits) ctx.reject(fmt::format("input {} {} is no gate of the keys", index, to_string(d)));
  return {d[0], d[1], 1, d[2], to_doubles(ctx.input(index))};
}

void eval_linear_attention(EvalContext& ctx) {
  const std::string rule = ctx.node.text("update_rule", "gated_delta");
  const bool gated = rule == "gated" || rule == "gated_delta", delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta && rule != "linear") ctx.reject(fmt::format("update_rule is unknown: {}", rule));
  if (gated != ctx.has_input(4)) ctx.reject(fmt::format("update_rule {} and the decay do not go together", rule));
  if (delta != ctx.has_input(5)) ctx.reject(fmt::format("update_rule {} and beta do not go together", rule));
  const HeadCounts heads = head_counts(ctx.node);
  PackedHeads q = packed(ctx, 0, heads.query), k = packed(ctx, 1, heads.key), v = packed(ctx, 2, heads.key);
  if (k.batch != q.batch || v.batch != q.batch || k.length != q.length || v.length != q.length || k.size != q.size)
    ctx.reject("query, key and value do not go together");
  PackedHeads decay, beta;
  if (gated) decay = gate(ctx, 4, k, {heads.key, heads.key * k.size});
  if (delta) beta = gate(ctx, 5, k, {heads.key, 1});
  const Dims state_dims = {q.batch, heads.key, k.size, v.size};
  if (ctx.has_input(3) && ctx.input(3).dims() != state_dims)
    ctx.reject(fmt::format("the state {} is not {}", to_string(ctx.input(3).dims()), to_string(state_dims)));
  std::vector<double> states =
      ctx.has_input(3) ? to_doubles(ctx.input(3)) : std::vector<double>(static_cast<size_t>(bounded_count(state_dims)));
  const Dims y_dims = {q.batch, q.length, heads.query * v.size};
  PackedHeads y{q.batch, q.length, v.size, heads.query * v.size,
                std::vector<double>(static_cast<size_t>(bounded_count(y_dims)))};
  const double asked = ctx.node.real("scale", 0);
  const double scale = asked != 0 ? asked : 1 / std::sqrt(static_cast<double>(std::max<int64_t>(k.size, 1)));
  const int64_t group = heads.query / heads.key;
  std::vector<double> written(static_cast<size_t>(v.size));
  for (int64_t b = 0; b < q.batch; ++b)
    for (int64_t t = 0; t < q.length; ++t)
      for (int64_t h = 0; h < heads.key; ++h) {
        double* state = states.data() + (b * heads.key + h) * k.size * v.size;
        const double *key = k.row(b, t, h), *value = v.row(b, t, h);
        for (int64_t d = 0; gated && d < k.size; ++d) {
          const double factor = std::exp(decay.row(b, t, decay.width == heads.key ? h : h * k.size + d)[0]);
          for (int64_t m = 0; m < v.size; ++m) state[d * v.size + m] *= factor;
        }
        for (int64_t m = 0; m < v.size; ++m) {
          double stored = 0;
          for (int64_t d = 0; delta && d < k.size; ++d) stored += state[d * v.size + m] * key[d];
          const double rate = delta ? beta.row(b, t, beta.width == 1 ? 0 : h)[0] : 1.0;
          written[static_cast<size_t>(m)] = rate * (value[m] - stored);
        }
        for (int64_t d = 0; d < k.size; ++d)
          for (int64_t m = 0; m < v.size; ++m) state[d * v.size + m] += key[d] * written[static_cast<size_t>(m)];
        for (int64_t reader = h * group; reader < (h + 1) * group; ++reader) {
          const double* query = q.row(b, t, reader);
          double* to = y.row(b, t, reader);
          for (int64_t d = 0; d < k.size; ++d)
            for (int64_t m = 0; m < v.size; ++m) to[m] += scale * query[d] * state[d * v.size + m];
        }
      }
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), y_dims, y.values));
  ctx.set_output(1, from_doubles(ctx.has_input(3) ? ctx.input(3).dtype() : ctx.input(0).dtype(), state_dims, states));
}

void infer_linear_attention(InferContext& ctx) {
  const HeadCounts heads = head_counts(ctx.node);
  const Shape &q = ctx.shape(0), &v = ctx.shape(2);
  const Dim key_size = q.rank() == 3 ? divide(q[2], Dim(heads.query)) : Dim();
  const Dim value_size = v.rank() == 3 ? divide(v[2], Dim(heads.key)) : Dim();
  const Dim batch = q.rank() == 3 ? q[0] : Dim(), length = q.rank() == 3 ? q[1] : Dim();
  ctx.set_output(0, ctx.dtype(0), Shape({batch, length, multiply(Dim(heads.query), value_size)}));
  ctx.set_output(1, ctx.dtype(ctx.has_input(3) ? 3 : 0), Shape({batch, Dim(heads.key), key_size, value_size}));
}

double linear_attention_flops(const CostContext& ctx) {
  const Dims &k = ctx.inputs[1], &state = ctx.outputs.back();
  return k.size() == 3 && state.size() == 4 ? 6 * static_cast<double>(k[1]) * static_cast<double>(element_count(state))
                                            : 0;
}

// y[b, c, t] = bias[c] + Σ weight[c, 0, i] · padded[b, c, t + i], where the state stands before the input.
void eval_causal_convolution(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Dims &d = x.dims(), &w = ctx.input(1).dims();
  if (d.size() != 3 || w.size() != 3 || w[0] != d[1] || w[1] != 1 || w[2] < 1)
    ctx.reject(fmt::format("the weights {} do not fit {}", to_string(w), to_string(d)));
  const std::string activation = ctx.node.text("activation", "none");
  const bool swish = activation == "silu" || activation == "swish";
  if (!swish && activation != "none") ctx.reject(fmt::format("activation is unknown: {}", activation));
  const int64_t channels = d[1], length = d[2], taps = w[2], carried = taps - 1;
  const Dims state_dims = {d[0], channels, carried};
  if (ctx.has_input(3) && ctx.input(3).dims() != state_dims)
    ctx.reject(fmt::format("the state {} is not {}", to_string(ctx.input(3).dims()), to_string(state_dims)));
  if (ctx.has_input(2) && ctx.input(2).dims() != Dims{channels})
    ctx.reject(fmt::format("the bias {} is not one a channel", to_string(ctx.input(2).dims())));
  std::vector<double> state =
      ctx.has_input(3) ? to_doubles(ctx.input(3)) : std::vector<double>(static_cast<size_t>(bounded_count(state_dims)));
  const std::vector<double> values = to_doubles(x), weights = to_doubles(ctx.input(1));
  const std::vector<double> bias =
      ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(static_cast<size_t>(channels), 0.0);
  std::vector<double> y(values.size()), padded;
  for (int64_t line = 0; line < d[0] * channels; ++line) {
    const auto own_state = state.begin() + line * carried;
    padded.assign(own_state, own_state + carried);
    padded.insert(padded.end(), values.begin() + line * length, values.begin() + (line + 1) * length);
    const int64_t c = line % channels;
    for (int64_t t = 0; t < length; ++t) {
      double sum = bias[static_cast<size_t>(c)];
      for (int64_t i = 0; i < taps; ++i)
        sum += weights[static_cast<size_t>(c * taps + i)] * padded[static_cast<size_t>(t + i)];
      y[static_cast<size_t>(line * length + t)] = swish ? sum / (1 + std::exp(-sum)) : sum;
    }
    std::copy(padded.end() - carried, padded.end(), own_state);
  }
  ctx.set_output(0, from_doubles(x.dtype(), d, y));
  ctx.set_output(1, from_doubles(x.dtype(), state_dims, state));
}

void infer_causal_convolution(InferContext& ctx) {
  const Shape &x = ctx.shape(0), &w = ctx.shape(1);
  ctx.set_output(0, ctx.dtype(0), x);
  const Dim carried = w.rank() == 3 && w[2].is_known() && w[2].value() > 0 ? Dim(w[2].value() - 1) : Dim();
  ctx.set_output(1, ctx.dtype(0), x.rank() == 3 ? Shape({x[0], x[1], carried}) : Shape::with_rank(3));
}

double causal_convolution_flops(const CostContext& ctx) {
  const Dims& w = ctx.inputs[1];
  return w.size() == 3 ? 2 * static_cast<double>(w[2]) * static_cast<double>(element_count(ctx.outputs[0])) : 0;
}

constexpr OpSpec kLinearAttentionOps[] = {
    {.name = "LinearAttention",
     .since = 27,
     .min_inputs = 3,
     .max_inputs = 6,
     .max_outputs = 2,
     .infer = infer_linear_attention,
     .eval = eval_linear_attention,
     .flops = linear_attention_flops},
    {.name = "CausalConvWithState",
     .since = 27,
     .min_inputs = 2,
     .max_inputs = 4,
     .max_outputs = 2,
     .infer = infer_causal_convolution,
     .eval = eval_causal_convolution,
     .flops = causal_convolution_flops},
};

}  // namespace

std::span<const OpSpec> linear_attention_ops() { return kLinearAttentionOps; }

}  // namespace slipway
