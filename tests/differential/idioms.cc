#include "idioms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace slipway {
namespace {

class IdiomWriter {
 public:
  IdiomWriter(GraphWriter& writer, ValueId x) : w_(writer), x_(x) {}

  // Absent operands make absent results; in quantised graphs a result may be quantised.
  ValueId op(std::string_view name, std::vector<ValueId> inputs, Attributes attributes = {}) {
    for (const ValueId v : inputs)
      if (v == kNoValue) return kNoValue;
    const ValueId y = w_.apply(name, std::move(inputs), std::move(attributes));
    return y != kNoValue && w_.style.quantised && w_.chance(0.03) ? w_.quantise(y) : y;
  }
  // In either order.
  ValueId either(std::string_view name, std::vector<ValueId> inputs) {
    if (w_.chance(0.5)) std::swap(inputs[0], inputs[1]);
    return op(name, std::move(inputs));
  }
  ValueId number(double value) {
    if (w_.chance(0.01)) value *= 1.25;
    const auto rank = static_cast<size_t>(w_.chance(0.9) ? 0 : w_.between(1, w_.chance(0.1) ? 5 : 1));
    return w_.constant(from_doubles(w_.tensor(x_).dtype(), Dims(rank, 1), std::vector<double>{value}));
  }
  ValueId times(ValueId v, double factor) {
    return w_.chance(0.4) ? op("Div", {v, number(1 / factor)}) : either("Mul", {v, number(factor)});
  }

  ValueId mean(ValueId v, const std::vector<int64_t>& axes) {
    Attributes attributes;
    if (w_.chance(0.3)) attributes["keepdims"] = int64_t{1};
    if (w_.style.opset >= 18) return op("ReduceMean", {v, w_.constant_ints(axes)}, attributes);
    attributes["axes"] = axes;
    return op("ReduceMean", {v}, attributes);
  }
  ValueId square(ValueId v) { return w_.chance(0.5) ? op("Pow", {v, number(2)}) : op("Mul", {v, v}); }
  ValueId inverse(ValueId deviation) {
    return w_.chance(0.6) ? op("Reciprocal", {deviation}) : op("Div", {number(1), deviation});
  }

  void normalization() {
    const Dims dims = w_.tensor(x_).dims();
    const auto rank = static_cast<int64_t>(dims.size());
    const bool centres = w_.chance(0.7);
    std::vector<int64_t> axes = {w_.chance(0.9) ? rank - 1 : 0};
    if (rank > 1 && w_.chance(0.25)) axes = {rank - 2, rank - 1};
    const Dims row(dims.begin() + axes.front(), dims.end());
    if (w_.style.opset >= 11 && w_.chance(0.4))
      for (int64_t& a : axes) a -= rank;
    const ValueId m = centres ? mean(x_, axes) : kNoValue, d = centres ? op("Sub", {x_, m}) : x_;
    const ValueId variance = either("Add", {mean(square(d), axes), number(w_.chance(0.8) ? 1e-5 : 0.5)});
    const ValueId deviation = w_.chance(0.8) ? op("Sqrt", {variance}) : op("Pow", {variance, number(0.5)});
    const auto parameter = [&] { return w_.fresh(w_.tensor(x_).dtype(), w_.chance(0.9) ? row : Dims{}, 0.9); };
    if (centres && w_.chance(0.3)) {
      const ValueId factor = w_.chance(0.8) ? either("Mul", {inverse(deviation), parameter()}) : inverse(deviation);
      const ValueId shift = w_.chance(0.5) ? either("Add", {either("Mul", {op("Neg", {m}), factor}), parameter()})
                                           : op("Sub", {parameter(), either("Mul", {m, factor})});
      either("Add", {either("Mul", {x_, factor}), shift});
      return;
    }
    ValueId y = w_.chance(0.5)   ? op("Div", {d, deviation})
                : w_.chance(0.7) ? either("Mul", {d, inverse(deviation)})
                                 : either("Mul", {d, either("Mul", {inverse(deviation), parameter()})});
    if (w_.chance(0.8)) y = either("Mul", {y, parameter()});
    if (w_.chance(0.7)) either("Add", {y, parameter()});
  }

  // x / 2·(1 + gate) in some order.
  ValueId half_of(ValueId gate) {
    const double kind = w_.random.uniform();
    if (kind < 0.3) return times(either("Mul", {x_, either("Add", {gate, number(1)})}), 0.5);
    if (kind < 0.6) return either("Mul", {times(x_, 0.5), either("Add", {gate, number(1)})});
    if (kind < 0.8) return either("Mul", {x_, times(either("Add", {gate, number(1)}), 0.5)});
    if (kind < 0.9) return either("Mul", {x_, either("Add", {times(gate, 0.5), number(0.5)})});
    const ValueId half = times(x_, 0.5);
    return either("Add", {half, either("Mul", {half, gate})});
  }

  void gelu() {
    if (w_.style.opset >= 9 && w_.chance(0.6)) {
      if (w_.chance(0.8)) {
        half_of(op("Erf", {times(x_, 1 / std::numbers::sqrt2)}));
      } else {
        const ValueId e = op("Erf", {times(op("Neg", {x_}), 1 / std::numbers::sqrt2)});
        either("Mul", {times(x_, 0.5), op("Sub", {number(1), e})});
      }
      return;
    }
    const double slope = std::sqrt(2 / std::numbers::pi), cubic = 0.044715;
    ValueId u;
    if (w_.chance(0.5)) {
      const ValueId cube = w_.chance(0.5) ? op("Pow", {x_, number(3)}) : either("Mul", {x_, either("Mul", {x_, x_})});
      u = times(either("Add", {x_, either("Mul", {cube, number(cubic)})}), slope);
    } else {
      const ValueId rest = either("Add", {either("Mul", {square(x_), number(cubic)}), number(1)});
      u = either("Mul", {either("Mul", {x_, number(slope)}), rest});
    }
    half_of(op("Tanh", {u}));
  }

  void swish() {
    const double alpha = static_cast<double>(w_.any({1, 1, 1, 2, -1, 0})) * (w_.chance(0.3) ? 0.851 : 1);
    either("Mul", {x_, op("Sigmoid", {alpha == 1 && w_.chance(0.8) ? x_ : either("Mul", {x_, number(alpha)})})});
  }

  void hard_swish() {
    if (w_.chance(0.4)) {
      const float slope = w_.chance(0.9) ? 1.0f / 6.0f : 0.2f;
      either("Mul", {x_, op("HardSigmoid", {x_}, {{"alpha", slope}})});
      return;
    }
    const ValueId sum = either("Add", {x_, number(3)});
    const ValueId gate = w_.style.opset < 11 ? op("Clip", {sum}, {{"min", 0.0f}, {"max", 6.0f}})
                                             : op("Clip", {sum, scalar(0), scalar(6)});
    w_.chance(0.5) ? either("Mul", {x_, times(gate, 1.0 / 6)}) : times(either("Mul", {x_, gate}), 1.0 / 6);
  }

  // softmax(x·scale + mask), the scores with their number before or behind the product of queries and keys, and what
  // exporters set behind it for rows that are masked all over.
  void attention() {
    ValueId scores = x_;
    Dims dims = w_.tensor(x_).dims();
    const double scale = static_cast<double>(w_.any({1, 2, 3, 5, -1})) / 4;
    if (dims.size() >= 2 && w_.chance(0.4)) {
      Dims keys = dims;
      std::swap(keys[dims.size() - 2], keys.back());
      const ValueId k = w_.fresh(w_.tensor(x_).dtype(), keys, 0.3);
      scores = w_.chance(0.5) ? op("MatMul", {times(x_, scale), times(k, scale)}) : op("MatMul", {x_, k});
      if (scores == kNoValue) return;
      dims = w_.tensor(scores).dims();
    }
    if (w_.chance(0.7)) scores = times(scores, scale);
    scores = masked(scores, dims);
    const auto last = static_cast<int64_t>(dims.size()) - 1;
    const ValueId p = op("Softmax", {scores}, {{"axis", w_.chance(0.5) || w_.style.opset < 11 ? last : int64_t{-1}}});
    if (w_.chance(0.5)) op("Where", {op("IsNaN", {p}), number(0), p});
  }

  ValueId masked(ValueId scores, Dims dims) {
    if (w_.chance(0.2)) return scores;
    for (int64_t& d : dims)
      if (w_.chance(0.4)) d = 1;
    dims.erase(dims.begin(), dims.begin() + w_.between(0, static_cast<int64_t>(dims.size())));
    const double low = w_.chance(0.5) ? -std::numeric_limits<double>::infinity() : -1e4;
    const ValueId seen = w_.fresh(DType::kBool, dims, 0.5);
    if (w_.chance(0.4)) {
      const bool hides = w_.chance(0.5);
      return op("Where", {seen, hides ? scalar(low) : scores, hides ? scores : scalar(low)});
    }
    const ValueId mask =
        w_.chance(0.5) ? op("Where", {seen, scalar(0), scalar(low)}) : w_.fresh(w_.tensor(x_).dtype(), dims, 0.5);
    return either("Add", {scores, mask});
  }

  // A mask that is repeated before it becomes numbers, and the mean or sum of what it leaves.
  void masked_mean() {
    const Dims dims = w_.tensor(x_).dims();
    if (w_.style.opset < 8) return;
    Dims narrow = dims;
    for (int64_t& d : narrow)
      if (w_.chance(0.5)) d = 1;
    const auto dtype = static_cast<DType>(w_.any({1, 7, 9}));  // of floats, integers, booleans
    const auto to = [](DType type) { return Attributes{{"to", static_cast<int64_t>(type)}}; };
    const ValueId mask = op("Expand", {w_.fresh(dtype, narrow, 0.2), w_.constant_ints(dims)});
    ValueId c = op("Cast", {mask}, to(w_.tensor(x_).dtype()));
    if (w_.chance(0.4)) c = op("Sub", {number(1), c});
    if (w_.chance(0.3)) c = op("Where", {op("Cast", {c}, to(DType::kBool)), number(-1e4), c});
    const ValueId kept = either(w_.chance(0.7) ? "Mul" : "Add", {x_, c});
    const auto axis = w_.between(0, static_cast<int64_t>(dims.size()) - 1);
    const ValueId divisor = op("Clip", {mean(c, {axis}), number(1e-9)});
    if (w_.chance(0.7)) op("Div", {mean(kept, {axis}), divisor});
  }

  // x·cos + rotate_half(x)·sin.
  void rotary() {
    const Dims dims = w_.tensor(x_).dims();
    const auto last = static_cast<int64_t>(dims.size()) - 1;
    const int64_t size = dims.back(), half = size / 2;
    if (size < 2 || size % 2 != 0 || w_.style.opset < 10) return;
    const auto part = [&](int64_t from, int64_t to) {
      return op("Slice", {x_, w_.constant_ints({from}), w_.constant_ints({to}), w_.constant_ints({last})});
    };
    const ValueId turned = op("Concat", {op("Neg", {part(half, size)}), part(0, half)}, {{"axis", last}});
    const Dims angles(dims.begin() + w_.between(0, last), dims.end());
    const auto angle = [&] { return w_.fresh(w_.tensor(x_).dtype(), angles, 0.5); };
    either("Add", {either("Mul", {x_, angle()}), either("Mul", {turned, angle()})});
  }

 private:
  ValueId scalar(double value) {
    return w_.constant(from_doubles(w_.tensor(x_).dtype(), {}, std::vector<double>{value}));
  }

  GraphWriter& w_;
  const ValueId x_;
};

}  // namespace

void write_idiom(GraphWriter& writer) {
  const ValueId x = writer.from_pool({writer.style.dtype}, 1, 4);
  if (x == kNoValue || !is_float(writer.style.dtype)) return;
  IdiomWriter idiom(writer, x);
  const double kind = writer.random.uniform();
  if (kind < 0.3) return idiom.normalization();
  if (kind < 0.45) return idiom.gelu();
  if (kind < 0.55) return idiom.swish();
  if (kind < 0.65) return idiom.hard_swish();
  if (kind < 0.85 && writer.style.opset >= 23 && writer.chance(0.4)) return void(writer.add("Attention"));
  if (kind < 0.85) return idiom.attention();
  if (kind < 0.95) return idiom.masked_mean();
  idiom.rotary();
}

}  // namespace slipway
