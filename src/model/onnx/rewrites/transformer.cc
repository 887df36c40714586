// Transformer blocks that ONNX Runtime's optimiser fuses (com.microsoft), as products, softmax and normalisation again.
// Attention: A. Vaswani et al., "Attention Is All You Need", 2017. Heads are [B, heads, S, size] between the products;
// positions, hence masks, follow from shapes at run time.
#include <cmath>

#include "base/error.h"
#include "model/onnx/rewrites/attention_parts.h"

namespace slipway {
namespace {

constexpr float kSkipEpsilon = 1e-12f;  // ONNX Runtime's default

Attributes normalization_attributes(const Rewrite& r) {
  return {{"axis", int64_t{-1}}, {"epsilon", r.node.real("epsilon", kSkipEpsilon)}};
}

ValueId skip_sum(Rewrite& r, size_t bias) {
  const ValueId sum = r.add("Add", {r.need(0), r.need(1)});
  return r.has(bias) ? r.add("Add", {sum, r.in(bias)}) : sum;
}

void skip_layer_normalization(Rewrite& r) {
  const ValueId sum = skip_sum(r, 4);
  const ValueId y = r.add("LayerNormalization", {sum, r.need(2), r.in(3)}, normalization_attributes(r));
  r.finish({y, kNoValue, kNoValue, sum});
}

void skip_simplified_layer_normalization(Rewrite& r) {
  const ValueId sum = skip_sum(r, 3);
  const ValueId y = r.add("SimplifiedLayerNormalization", {sum, r.need(2)}, normalization_attributes(r));
  r.finish({y, kNoValue, kNoValue, sum});
}

/// Tables of embeddings, and what normalises their sum, in float.
struct EmbeddingTables {
  ValueId words, places, segments;
  ValueId gamma, beta;
  ValueId place_ids = kNoValue;  ///< absent: 0, 1, 2, …
};

// Word ids are input 0, segment ids input 1, the mask input 7.
void embed(Rewrite& r, const EmbeddingTables& tables) {
  const ValueId ids = r.need(0);
  const auto rows = [&](ValueId table, ValueId which) {
    return r.add("Gather", {table, which}, {{"axis", int64_t{0}}});
  };
  if (r.opset < 10) r.unsupported("it needs opset 10 or later of the standard operators");
  const ValueId places = tables.place_ids != kNoValue
                             ? rows(tables.places, tables.place_ids)
                             : r.add("Slice", {tables.places, r.integers({0}), r.size_along(ids, 1), r.integers({0})});
  ValueId sum = r.add("Add", {rows(tables.words, ids), places});
  if (r.has(1)) sum = r.add("Add", {sum, rows(tables.segments, r.in(1))});
  const ValueId y = r.add("LayerNormalization", {sum, tables.gamma, tables.beta}, normalization_attributes(r));
  ValueId lengths = kNoValue;
  if (r.wants(1) && r.has(7)) {
    lengths = r.reduce_sum(r.in(7), 1);
    r.declare(lengths, DType::kInt32, Shape::with_rank(1));
  }
  r.finish({y, lengths, sum});
}

void embed_layer_normalization(Rewrite& r) {
  embed(r, {.words = r.need(2),
            .places = r.need(3),
            .segments = r.has(1) ? r.need(4) : kNoValue,
            .gamma = r.need(5),
            .beta = r.need(6),
            .place_ids = r.in(8)});
}

// Scales are inputs 8 to 12, zero points 13 to 17, in the order of what they belong to, inputs 2 to 6.
void quantized_embed_layer_normalization(Rewrite& r) {
  const auto real = [&](size_t i) { return r.dequantize(r.need(i), r.need(i + 6), r.in(i + 11)); };
  embed(r, {.words = real(2),
            .places = real(3),
            .segments = r.has(1) ? real(4) : kNoValue,
            .gamma = real(5),
            .beta = real(6)});
}

/// What the two operators of attention have in common once Q, K and V are apart, [B, S, heads · size] each.
struct AttentionParts {
  ValueId q, k, v;
  ValueId past_k = kNoValue, past_v = kNoValue;  ///< [B, heads, P, size]
  ValueId padding = kNoValue;                    ///< i32: [B], [B, T], [B, S, T]
  ValueId bias = kNoValue;                       ///< added to the scores
  int64_t hidden = 0;                            ///< of Q, where known: heads · size
  bool heads_apart = false;                      ///< k and v are [B, heads, T, size] already
};

struct AttentionResult {
  ValueId y, k, v;  ///< k and v with what was before, [B, heads, T, size]
};

// What is added to the scores where a key is padding.
ValueId padding_bias(Rewrite& r, const AttentionParts& parts, ValueId keys) {
  const int64_t rank = r.rank(parts.padding);
  const float filler = r.node.real("mask_filter_value", -10000.0f);
  ValueId kept = kNoValue;  // bool, [B, 1, 1 or S, T]
  if (rank == 1) {
    const ValueId columns = r.numbers_below(r.size_along(keys, 2));
    const ValueId lengths = r.reshape(r.add("Cast", {parts.padding}, {{"to", int64_t{7}}}), {-1, 1, 1, 1});
    kept = r.add("Less", {columns, lengths});
  } else if (rank == 2 || rank == 3) {
    const ValueId flags = r.add("Cast", {parts.padding}, {{"to", static_cast<int64_t>(DType::kBool)}});
    if (rank == 2) {
      const ValueId shape = r.add("Concat", {r.size_along(flags, 0), r.integers({1, 1, -1})}, {{"axis", int64_t{0}}});
      kept = r.add("Reshape", {flags, shape});
    } else {
      const ValueId shape =
          r.add("Concat", {r.size_along(flags, 0), r.integers({1}), r.size_along(flags, 1), r.size_along(flags, 2)},
                {{"axis", int64_t{0}}});
      kept = r.add("Reshape", {flags, shape});
    }
  } else {
    r.unsupported(fmt::format("its mask's rank is {}", rank < 0 ? "not declared" : std::to_string(rank)));
  }
  const ValueId like = parts.q;
  return r.add("Where", {kept, r.number(0, like), r.number(static_cast<double>(filler), like)});
}

// Whether a query may see a key: its place, counted from the end of all keys, is not before the key's; [S, T].
ValueId causal_mask(Rewrite& r, ValueId queries, ValueId keys) {
  const ValueId total = r.size_along(keys, 2), count = r.size_along(queries, 2);
  const ValueId rows = r.add("Add", {r.numbers_below(count), r.add("Sub", {total, count})});
  return r.add("Not", {r.add("Greater", {r.numbers_below(total), r.reshape(rows, {-1, 1})})});
}

AttentionResult attend(Rewrite& r, const AttentionParts& parts) {
  if (r.opset < 11) r.unsupported("it needs opset 11 or later of the standard operators");
  const int64_t heads = r.node.integer("num_heads", 0);
  if (heads < 1) r.reject(fmt::format("it has {} heads", heads));
  const ValueId q = heads_of(r, parts.q, heads);
  ValueId k = parts.heads_apart ? parts.k : heads_of(r, parts.k, heads);
  ValueId v = parts.heads_apart ? parts.v : heads_of(r, parts.v, heads);
  if (parts.past_k != kNoValue) k = r.add("Concat", {parts.past_k, k}, {{"axis", int64_t{2}}});
  if (parts.past_v != kNoValue) v = r.add("Concat", {parts.past_v, v}, {{"axis", int64_t{2}}});
  ValueId scores = r.add("MatMul", {q, r.transpose(k, {0, 1, 3, 2})});
  const auto given = static_cast<double>(r.node.real("scale", 0.0f));
  const double scale =
      given != 0 || parts.hidden < heads ? given : 1 / std::sqrt(static_cast<double>(parts.hidden / heads));
  if (scale != 0) {
    scores = r.add("Mul", {scores, r.number(scale, parts.q)});
  } else {
    const ValueId size = r.cast_like(r.size_along(q, 3), parts.q);
    scores = r.add("Div", {scores, r.add("Sqrt", {size})});
  }
  if (parts.bias != kNoValue) scores = r.add("Add", {scores, parts.bias});
  if (parts.padding != kNoValue) scores = r.add("Add", {scores, padding_bias(r, parts, k)});
  if (r.is_set("unidirectional")) scores = r.add("Where", {causal_mask(r, q, k), scores, r.number(-INFINITY, parts.q)});
  const ValueId weights = r.add("Softmax", {scores}, {{"axis", int64_t{3}}});
  const ValueId y = r.reshape(r.transpose(r.add("MatMul", {weights, v}), {0, 2, 1, 3}), {0, 0, -1});
  return {y, k, v};
}

// Both at once along a new first axis.
ValueId stacked(Rewrite& r, ValueId a, ValueId b) {
  const ValueId shape = r.add("Concat", {r.integers({1}), r.add("Shape", {a})}, {{"axis", int64_t{0}}});
  return r.add("Concat", {r.add("Reshape", {a, shape}), r.add("Reshape", {b, shape})}, {{"axis", int64_t{0}}});
}

/// Attention whose projection to Q, K and V is one product.
struct MergedProjection {
  ValueId all;  ///< [B, S, of Q + of K + of V]
  Dims weights;
  ValueId mask, past, bias = kNoValue;
};

void attend_merged(Rewrite& r, const MergedProjection& p) {
  if (r.is_set("do_rotary") || r.is_set("past_present_share_buffer")) r.unsupported("it rotates, or shares a buffer");
  if (p.weights.size() != 2) r.reject(fmt::format("weights {} are no matrix", to_string(p.weights)));
  std::vector<int64_t> sizes = r.node.integers("qkv_hidden_sizes");
  if (sizes.empty()) sizes.assign(3, p.weights[1] / 3);
  int64_t left = p.weights[1];
  for (int64_t size : sizes) left = size < 0 || size > left ? -1 : left - size;
  if (sizes.size() != 3 || left != 0)
    r.reject(fmt::format("weights {} are not those of Q, K and V", to_string(p.weights)));
  const std::vector<ValueId> qkv = r.split(p.all, -1, sizes);
  AttentionParts parts{.q = qkv[0], .k = qkv[1], .v = qkv[2], .padding = p.mask, .bias = p.bias, .hidden = sizes[0]};
  if (p.past != kNoValue) {
    const auto half = [&](int64_t i) {
      return r.add("Gather", {p.past, r.tensor(Tensor::scalar(i))}, {{"axis", int64_t{0}}});
    };
    parts.past_k = half(0);
    parts.past_v = half(1);
  }
  const AttentionResult result = attend(r, parts);
  r.finish({result.y, r.wants(1) ? stacked(r, result.k, result.v) : kNoValue});
}

void merged_attention(Rewrite& r) {
  if (r.has(6)) r.unsupported("it shares a buffer");
  ValueId all = r.add("MatMul", {r.need(0), r.need(1)});
  if (r.has(2)) all = r.add("Add", {all, r.in(2)});
  attend_merged(r, {.all = all, .weights = r.known(1).dims(), .mask = r.in(3), .past = r.in(4), .bias = r.in(5)});
}

void quantized_attention(Rewrite& r) {
  const ValueId x = r.dequantize(r.need(0), r.need(3), r.in(6)), w = r.dequantize(r.need(1), r.need(4), r.in(7), 1);
  const ValueId all = r.add("Add", {r.add("MatMul", {x, w}), r.need(2)});
  attend_merged(r, {.all = all, .weights = r.known(1).dims(), .mask = r.in(5), .past = r.in(8)});
}

void multi_head_attention(Rewrite& r) {
  if (r.has(8) || r.has(9)) r.unsupported("it shares the buffer of the past");
  if (!r.has(1) || !r.has(2)) r.unsupported("its keys and values are packed");
  AttentionParts parts{.q = r.need(0),
                       .k = r.need(1),
                       .v = r.need(2),
                       .past_k = r.in(6),
                       .past_v = r.in(7),
                       .padding = r.in(4),
                       .bias = r.in(5)};
  parts.heads_apart = r.rank(parts.k) == 4;
  if (r.rank(parts.q) > 3 || r.rank(parts.k) > 4) r.unsupported("its queries, keys and values are packed");
  if (r.has(3)) {
    const Tensor& bias = r.known(3);
    if (bias.elements() % 3 != 0) r.unsupported("its values' size is not the queries'");
    parts.hidden = bias.elements() / 3;
    const std::vector<ValueId> qkv = r.split(r.in(3), 0, std::vector<int64_t>(3, parts.hidden));
    parts.q = r.add("Add", {parts.q, qkv[0]});
    if (!parts.heads_apart) parts.k = r.add("Add", {parts.k, qkv[1]});
    if (!parts.heads_apart) parts.v = r.add("Add", {parts.v, qkv[2]});
  }
  const AttentionResult result = attend(r, parts);
  r.finish({result.y, result.k, result.v});
}

void rotary_embedding(Rewrite& r) {
  if (r.opset < 10 || r.is_set("is_packed_batching") || r.node.real("scale", 1.0f) != 1)
    r.unsupported("its batches are packed, it scales, or it needs opset 10 of the standard operators");
  const int64_t positions_rank = r.rank(r.need(1));
  const Dims cache = r.known(2).dims();
  if (cache.size() != 2 || r.known(3).dims() != cache)
    r.reject(fmt::format("its caches are {} and {}", to_string(cache), to_string(r.known(3).dims())));
  const int64_t half = cache[1], heads = r.node.integer("num_heads", 0);
  const bool heads_apart = r.rank(r.need(0)) == 4;  // [B, heads, S, size], else [B, S, heads · size]
  const ValueId x =
      heads_apart ? r.in(0) : r.reshape(r.in(0), heads > 0 ? Dims{0, 0, heads, -1} : Dims{0, 0, -1, 2 * half});
  ValueId positions = r.in(1);
  if (positions_rank == 1)
    positions = r.add("Add", {positions, r.numbers_below(r.size_along(r.in(0), heads_apart ? 2 : 1))});
  else if (positions_rank != 2)
    r.unsupported("its positions' rank is not declared");
  const int64_t rows = positions_rank == 1 ? 1 : 0;  // of the batch: one for all, or as many as there are
  const auto angles = [&](size_t input) {
    ValueId found = r.add("Gather", {r.in(input), positions}, {{"axis", int64_t{0}}});
    if (rows == 1) return r.reshape(found, heads_apart ? Dims{1, 1, -1, half} : Dims{1, -1, 1, half});
    found = r.reshape(found, {0, 0, 1, half});
    return heads_apart ? r.transpose(found, {0, 2, 1, 3}) : found;
  };
  const ValueId cosine = angles(2), sine = angles(3);
  const bool whole = r.node.integer("rotary_embedding_dim", 0) == 0;
  const ValueId y = turned_pairs(r, x, {cosine, sine, half, r.is_set("interleaved"), whole});
  r.finish({heads_apart ? y : r.reshape(y, {0, 0, -1})});
}

constexpr RewriteRule kTransformerRules[] = {
    {"SkipLayerNormalization", skip_layer_normalization},
    {"SkipSimplifiedLayerNormalization", skip_simplified_layer_normalization},
    {"EmbedLayerNormalization", embed_layer_normalization},
    {"QEmbedLayerNormalization", quantized_embed_layer_normalization},
    {"RotaryEmbedding", rotary_embedding},
    {"Attention", merged_attention},
    {"QAttention", quantized_attention},
    {"MultiHeadAttention", multi_head_attention},
    {"GroupQueryAttention", grouped_attention},
};

}  // namespace

std::span<const RewriteRule> transformer_rewrites() { return kTransformerRules; }

}  // namespace slipway
