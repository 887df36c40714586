// Attention in which several heads of queries share one of keys and values, with a cache (com.microsoft's
// GroupQueryAttention). J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
// Checkpoints", 2023. The cache [B, heads, P, size] may be as long as what it holds, or longer: each sequence of the
// batch has its own number of tokens before the new ones, which then follow at once. What lies behind these in the
// cache that comes out is left over and never read.
#include "model/onnx/rewrites/attention_parts.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace slipway {
namespace {

constexpr int64_t kMostHeads = 1 << 20;

// Places [first, first + step, …) of the last of four axes; to the end where `last` is 0.
ValueId last_axis_part(Rewrite& r, ValueId x, int64_t first, int64_t last, int64_t step = 1) {
  const int64_t end = last == 0 ? std::numeric_limits<int64_t>::max() : last;
  return r.add("Slice", {x, r.integers({first}), r.integers({end}), r.integers({3}), r.integers({step})});
}

ValueId as_i64(Rewrite& r, ValueId x) { return r.add("Cast", {x}, {{"to", int64_t{7}}}); }

struct GroupedHeads {
  ValueId q, k, v;  ///< [B, heads, S, size]
};

GroupedHeads grouped_heads(Rewrite& r, int64_t heads, int64_t shared) {
  if (r.has(1)) return {heads_of(r, r.need(0), heads), heads_of(r, r.in(1), shared), heads_of(r, r.need(2), shared)};
  const ValueId all = r.reshape(r.need(0), {0, 0, heads + 2 * shared, -1});  // Q, K and V side by side
  std::vector<ValueId> parts = r.split(all, 2, {heads, shared, shared});
  for (ValueId& part : parts) part = r.transpose(part, {0, 2, 1, 3});
  return {parts[0], parts[1], parts[2]};
}

// What the cache holds of each sequence, then its new tokens, as long as cache or sequence, whatever is longer.
ValueId cached(Rewrite& r, ValueId past, ValueId fresh, ValueId before, ValueId total) {
  const ValueId room = r.size_along(past, 2);
  const ValueId length = r.add("Where", {r.add("Greater", {total, room}), total, room});
  const ValueId place = r.numbers_below(length), beyond = r.add("Sub", {place, before});  // [T], [B, T]
  const ValueId last = r.add("Sub", {r.add("Add", {room, r.size_along(fresh, 2)}), r.integers({1})});
  ValueId source = r.add("Where", {r.add("Less", {beyond, r.integers({0})}), place, r.add("Add", {beyond, room})});
  source = r.add("Where", {r.add("Greater", {source, last}), last, source});
  const ValueId shape = r.joined({r.integers({1}), r.size_along(fresh, 1), r.integers({1}), r.size_along(fresh, 3)}, 0);
  source = r.add("Expand", {r.reshape(source, {0, 1, -1, 1}), shape});
  return r.add("GatherElements", {r.joined({past, fresh}, 2), source}, {{"axis", int64_t{2}}});
}

void require_plain(const Rewrite& r) {
  for (size_t i = 11; i < r.node.inputs.size(); ++i)
    if (r.has(i)) r.unsupported(fmt::format("it has input {}", i));
  for (const char* flag : {"smooth_softmax", "qk_output", "sliding_window_cache"})
    if (r.is_set(flag)) r.unsupported(fmt::format("{} is set", flag));
  for (const char* type : {"k_quant_type", "v_quant_type"})
    if (r.node.text(type, "NONE") != "NONE") r.unsupported("its cache is quantised");
  if (r.node.integer("causal", 1) == 0 || r.opset < 11) r.unsupported("it is not causal, or the opset is below 11");
}

}  // namespace

ValueId heads_of(Rewrite& r, ValueId x, int64_t heads) {
  return r.transpose(r.reshape(x, {0, 0, heads, -1}), {0, 2, 1, 3});
}

ValueId turned_pairs(Rewrite& r, ValueId x, const RotaryAngles& angles) {
  const int64_t half = angles.half;
  const ValueId a = angles.interleaved ? last_axis_part(r, x, 0, 2 * half, 2) : last_axis_part(r, x, 0, half);
  const ValueId b = angles.interleaved ? last_axis_part(r, x, 1, 2 * half, 2) : last_axis_part(r, x, half, 2 * half);
  ValueId first = r.add("Sub", {r.add("Mul", {a, angles.cosine}), r.add("Mul", {b, angles.sine})});
  ValueId second = r.add("Add", {r.add("Mul", {b, angles.cosine}), r.add("Mul", {a, angles.sine})});
  ValueId y = kNoValue;
  if (angles.interleaved) {
    first = r.reshape(first, {0, 0, 0, half, 1});
    second = r.reshape(second, {0, 0, 0, half, 1});
    y = r.reshape(r.joined({first, second}, 4), {0, 0, 0, 2 * half});
  } else {
    y = r.joined({first, second}, 3);
  }
  return angles.whole ? y : r.joined({y, last_axis_part(r, x, 2 * half, 0)}, 3);
}

void grouped_attention(Rewrite& r) {
  require_plain(r);
  const int64_t heads = r.node.integer("num_heads", 0), shared = r.node.integer("kv_num_heads", 0);
  if (heads < 1 || heads > kMostHeads || shared < 1 || heads % shared != 0)
    r.reject(fmt::format("{} heads do not share {} of keys", heads, shared));
  GroupedHeads h = grouped_heads(r, heads, shared);
  const ValueId count = r.size_along(h.q, 2), total = r.reshape(as_i64(r, r.need(6)), {1});
  const ValueId lengths = r.reshape(as_i64(r, r.need(5)), {-1, 1});  // of all but the last token, [B, 1]
  const ValueId after_prompt = r.add("Sub", {r.add("Add", {lengths, r.integers({1})}), count});
  const ValueId before = r.add("Where", {r.add("Equal", {count, total}), r.integers({0}), after_prompt});
  const ValueId positions = r.add("Add", {before, r.numbers_below(count)});  // [B, S]
  if (r.is_set("do_rotary")) {
    const Dims cache = r.known(7).dims();
    if (cache.size() != 2 || r.known(8).dims() != cache)
      r.reject(fmt::format("its caches are {} and {}", to_string(cache), to_string(r.known(8).dims())));
    const auto angles = [&](size_t input) {
      const ValueId found = r.add("Gather", {r.in(input), r.has(9) ? r.in(9) : positions}, {{"axis", int64_t{0}}});
      return r.reshape(found, {0, 1, -1, cache[1]});
    };
    const RotaryAngles turn{angles(7), angles(8), cache[1], r.is_set("rotary_interleaved"), false};
    h.q = turned_pairs(r, h.q, turn);
    h.k = turned_pairs(r, h.k, turn);
  }
  if (r.has(3)) {
    h.k = cached(r, r.in(3), h.k, before, total);
    h.v = cached(r, r.need(4), h.v, before, total);
  }
  // The heads of a group stand one below the other, so that one product serves them.
  const ValueId batch = r.size_along(h.q, 0), size = r.size_along(h.q, 3), keys = r.size_along(h.k, 2);
  const ValueId below = r.add("Reshape", {h.q, r.joined({batch, r.integers({shared, -1}), size}, 0)});
  ValueId scores = r.add("MatMul", {below, r.transpose(h.k, {0, 1, 3, 2})});
  scores = r.add("Reshape", {scores, r.joined({batch, r.integers({heads}), count, keys}, 0)});
  const auto scale = static_cast<double>(r.node.real("scale", 0.0f)),
             cap = static_cast<double>(r.node.real("softcap", 0.0f));
  scores = scale != 0 ? r.add("Mul", {scores, r.number(scale, r.in(0))})
                      : r.add("Div", {scores, r.add("Sqrt", {r.cast_like(size, r.in(0))})});
  if (cap != 0) {
    const ValueId most = r.number(cap, r.in(0));
    scores = r.add("Mul", {r.add("Tanh", {r.add("Div", {scores, most})}), most});
  }
  if (r.has(10)) scores = r.add("Add", {scores, r.in(10)});
  const ValueId at = r.reshape(positions, {0, 1, -1, 1}), key = r.numbers_below(keys);
  ValueId hidden = r.add("Greater", {key, at});
  if (const int64_t window = r.node.integer("local_window_size", -1); window > 0)
    hidden = r.add("Or", {hidden, r.add("Less", {key, r.add("Sub", {at, r.integers({window - 1})})})});
  const ValueId weights =
      r.add("Softmax", {r.add("Where", {hidden, r.number(-INFINITY, r.in(0)), scores})}, {{"axis", int64_t{3}}});
  ValueId y = r.add("Reshape", {weights, r.joined({batch, r.integers({shared, -1}), keys}, 0)});
  y = r.add("Reshape", {r.add("MatMul", {y, h.v}), r.joined({batch, r.integers({heads, -1}), size}, 0)});
  r.finish({r.reshape(r.transpose(y, {0, 2, 1, 3}), {0, 0, -1}), h.k, h.v});
}

}  // namespace slipway
