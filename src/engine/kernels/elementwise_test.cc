// Every function on every instruction set against the reference evaluation in double: over all exponents and signs, at
// special values, on every tail between guard pages, in place. SLIPWAY_EVERY_FLOAT=1 goes through all 2^32 floats
// (some hours) and prints each function's largest error.
#include "engine/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "base/cpu.h"
#include "engine/kernels/guarded.h"
#include "engine/kernels/ulp.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

struct Set {
  const char* name;
  const ElementwiseRows* rows;
};

std::vector<Set> sets() {
  std::vector<Set> list = {{"baseline", &kElementwiseBaseline}};
  if (cpu_features().avx2) list.push_back({"avx2", &kElementwiseAvx2});
  if (cpu_features().avx512) list.push_back({"avx512", &kElementwiseAvx512});
  return list;
}

Tensor doubles(const std::vector<float>& x) {
  return Tensor::of<double>({static_cast<int64_t>(x.size())}, std::vector<double>(x.begin(), x.end()));
}

// By the reference in double; SiLU is no operator of ONNX.
std::vector<double> exact(const UnaryRow& row, const float* parameters, const std::vector<float>& x) {
  const std::string name = row.name;
  OpCall call{name, name == "Clip" ? 10 : 24};
  for (size_t i = 0; i < 2; ++i)
    if (row.attributes[i] != nullptr) call.attributes[row.attributes[i]] = parameters[i];
  if (name == "GeluTanh") call = {"Gelu", 20, {{"approximate", std::string("tanh")}}};
  if (name == "SiLU") call.op = "Sigmoid";
  std::vector<double> y = to_doubles(call.run({doubles(x)})[0]);
  for (size_t i = 0; name == "SiLU" && i < y.size(); ++i) y[i] *= static_cast<double>(x[i]);
  return y;
}

// The defaults and two more, among them a Clip whose minimum is above its maximum.
std::vector<std::array<float, 2>> parameter_sets(const UnaryRow& row) {
  std::vector<std::array<float, 2>> all = {{row.defaults[0], row.defaults[1]}};
  if (row.attributes[0] != nullptr) all.insert(all.end(), {{0.3f, 0.7f}, {2.0f, 1.25f}});
  return all;
}

std::vector<float> sample(uint64_t first, uint64_t step, size_t count) {
  std::vector<float> x;
  for (uint64_t bits = first; bits < uint64_t{1} << 32 && x.size() < count; bits += step) {
    const auto low = static_cast<uint32_t>(bits);
    x.emplace_back();
    std::memcpy(&x.back(), &low, sizeof low);
  }
  return x;
}

TEST(Elementwise, KeepsItsBoundsOverTheWholeRange) {
  const bool every = std::getenv("SLIPWAY_EVERY_FLOAT") != nullptr;
  const uint64_t step = every ? 1 : 8009;
  constexpr size_t kChunk = 1 << 20;
  for (size_t i = 0; i < unary_functions().size(); ++i) {
    for (const auto& parameters : parameter_sets(unary_functions()[i])) {
      std::vector<double> worst(sets().size(), 0);
      std::vector<float> at(sets().size(), 0);
      const auto check = [&](const std::vector<float>& x) {
        const std::vector<double> want = exact(unary_functions()[i], parameters.data(), x);
        std::vector<float> got(x.size());
        for (size_t s = 0; s < sets().size(); ++s) {
          sets()[s].rows->unary[i].run(x.data(), got.data(), static_cast<int64_t>(x.size()), parameters.data());
          for (size_t k = 0; k < x.size(); ++k)
            if (const double error = ulp_error(got[k], want[k]); error > worst[s]) worst[s] = error, at[s] = x[k];
        }
      };
      check(special_floats());
      for (uint64_t first = 0; first < uint64_t{1} << 32; first += step * kChunk) check(sample(first, step, kChunk));
      for (size_t s = 0; s < sets().size(); ++s) {
        const UnaryRow& row = sets()[s].rows->unary[i];
        EXPECT_LE(worst[s], row.max_ulp) << row.name << " " << sets()[s].name << " at " << at[s] << " with "
                                         << parameters[0] << ", " << parameters[1];
        if (every)
          fmt::print("{} ({}, {}) {}: {:.3f} at {}\n", row.name, parameters[0], parameters[1], sets()[s].name, worst[s],
                     at[s]);
      }
      if (every) std::fflush(stdout);
    }
  }
}

TEST(Elementwise, EveryTailIsTheSameBetweenGuardPagesAndInPlace) {
  Random random(11);
  for (const Set& set : sets())
    for (int64_t f = 0; f < set.rows->unary_count; ++f) {
      const UnaryRow& row = set.rows->unary[f];
      for (int64_t count = 0; count <= 50; ++count) {
        const auto bytes = static_cast<size_t>(count) * sizeof(float);
        Guarded x(bytes), y(bytes);
        for (int64_t i = 0; i < count; ++i) x.as<float>()[i] = hard_float(random);
        std::vector<float> alone(static_cast<size_t>(count));
        for (size_t i = 0; i < alone.size(); ++i) row.run(x.as<float>() + i, &alone[i], 1, row.defaults);
        row.run(x.as<float>(), y.as<float>(), count, row.defaults);
        row.run(x.as<float>(), x.as<float>(), count, row.defaults);
        if (count == 0) continue;
        EXPECT_EQ(std::memcmp(y.data(), alone.data(), bytes), 0) << row.name << " " << set.name << " " << count;
        EXPECT_EQ(std::memcmp(x.data(), alone.data(), bytes), 0) << row.name << " " << set.name << " " << count;
      }
    }
}

TEST(Elementwise, FusedActivationsAreTheReferences) {
  std::vector<float> x = special_floats();
  Random random(12);
  for (int i = 0; i < 2000; ++i) x.push_back(hard_float(random));
  const auto count = static_cast<int64_t>(x.size());
  for (const char* name : {"Relu", "Clip", "LeakyRelu", "Tanh", "HardSwish", "HardSigmoid", "SiLU"}) {
    Graph graph =
        parse_text(fmt::format("graph \"\" ir 8 opset {{\"\": 13}} {{\n  input %x : f32[{0},1]\n  const %w : "
                               "f32[1,1] = {{1}}\n  %y = slipway.Gemm(%x, %w) {{activation = \"{1}\", alpha "
                               "= 0.25, beta = 0.5}}\n  output %y\n}}",
                               count, name));
    infer_shapes(graph);
    const std::vector<float> want = to_floats(evaluate(graph, std::array{Tensor::of<float>({count, 1}, x)})[0]);
    const Unary function = fused_activation(name, 0.25f, 0.5f);
    ASSERT_TRUE(function) << name;
    std::vector<float> got = x;
    function.run(got.data(), got.data(), count);
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] == 0) continue;  // a product's sum with zero has lost its sign
      EXPECT_LE(ulp_error(got[i], static_cast<double>(want[i])), function.row->max_ulp + 0.5f) << name << " " << x[i];
    }
  }
  EXPECT_FALSE(fused_activation("Exp", 0, 0));
  EXPECT_FALSE(fused_activation("", 0, 0));
}

TEST(Elementwise, FunctionsOfTwoAgreeOnAllPairsOfSpecialValues) {
  const std::vector<float> specials = special_floats();
  std::vector<float> a, b;
  for (float x : specials)
    for (float y : specials) a.push_back(x), b.push_back(y);
  for (const Set& set : sets())
    for (int64_t f = 0; f < set.rows->binary_count; ++f) {
      const BinaryRow& row = set.rows->binary[f];
      const std::vector<double> want = to_doubles(OpCall{row.name}.run({doubles(a), doubles(b)})[0]);
      std::vector<float> got(a.size());
      const auto count = static_cast<int64_t>(a.size());
      const BinaryBlock block = {a.data(), b.data(), got.data(), 1, count, 0, 0, 0, 1, 1};
      row.run(&block);
      for (size_t i = 0; i < a.size(); ++i)
        ASSERT_LE(ulp_error(got[i], want[i]), 0.5) << row.name << " " << set.name << " " << a[i] << ", " << b[i];
    }
}

// Random shapes up to rank 5, each operand's axes whole, one or absent; between guard pages, on several threads.
TEST(Elementwise, BroadcastsLikeTheReference) {
  Random random(13);
  for (int round = 0; round < 400; ++round) {
    Dims dims(random.below(6));
    for (int64_t& d : dims) d = static_cast<int64_t>(random.below(round % 20 == 0 ? 3 : 4) + (round % 20 == 0 ? 0 : 1));
    if (!dims.empty() && random.below(2) == 0) dims.back() = static_cast<int64_t>(1 + random.below(40));
    Dims from[2], strides[2];
    for (int k = 0; k < 2; ++k) {
      from[k] = dims;
      for (int64_t& d : from[k])
        if (random.below(3) == 0) d = 1;
    }
    for (size_t i = 0; i < dims.size(); ++i) dims[i] = from[0][i] == 1 ? from[1][i] : from[0][i];
    std::vector<float> values[2];
    for (int k = 0; k < 2; ++k) {
      values[k].resize(static_cast<size_t>(element_count(from[k])));
      for (float& v : values[k]) v = hard_float(random);
      strides[k] = strides_of(from[k]);
      for (size_t i = 0; i < dims.size(); ++i)
        if (from[k][i] == 1) strides[k][i] = 0;
    }
    const BinaryRow& row = binary_functions()[random.below(6)];
    const Tensor want =
        OpCall{row.name}.run({Tensor::of<float>(from[0], values[0]), Tensor::of<float>(from[1], values[1])})[0];
    Guarded a(values[0].size() * 4), b(values[1].size() * 4), y(want.bytes());
    if (!values[0].empty()) std::memcpy(a.data(), values[0].data(), values[0].size() * 4);
    if (!values[1].empty()) std::memcpy(b.data(), values[1].data(), values[1].size() * 4);
    BinaryLoops(row, dims, strides[0], strides[1]).run(a.as<float>(), b.as<float>(), y.as<float>(), 1 + round % 3);
    const auto expected = to_floats(want);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_LE(ulp_error(y.as<float>()[i], static_cast<double>(expected[i])), 0)
          << row.name << " " << to_string(from[0]) << " " << to_string(from[1]) << " element " << i;
  }
}

// Masked (−∞), NaN and far apart values among them; errors grow with neither the length nor the distance.
TEST(Elementwise, SoftmaxKeepsItsBounds) {
  Random random(14);
  for (int round = 0; round < 300; ++round) {
    const bool log = round % 2 == 1;
    const auto count = static_cast<int64_t>(1 + random.below(round % 5 == 0 ? 3000 : 60));
    const auto inner = static_cast<int64_t>(round % 3 == 0 ? 1 + random.below(70) : 1);
    const int64_t outer = 1 + round % 4;
    const double spread = std::ldexp(1.0, static_cast<int>(random.below(10)) - 1);
    std::vector<float> x(static_cast<size_t>(outer * count * inner));
    for (float& v : x) {
      v = static_cast<float>(random.normal() * spread);
      if (round % 4 == 2 && random.below(6) == 0) v = -std::numeric_limits<float>::infinity();
      if (round % 7 == 0 && random.below(200) == 0) v = hard_float(random);
    }
    const OpCall call{log ? "LogSoftmax" : "Softmax", 13, {{"axis", int64_t{1}}}};
    const std::vector<double> want =
        to_doubles(call.run({Tensor::of<double>({outer, count, inner}, std::vector<double>(x.begin(), x.end()))})[0]);
    // Each term of the sum may be rounded to a denormal.
    const double lost = std::ldexp(static_cast<double>(count), -149);
    const auto wrong = [&](float got, double exactly) {
      return !(std::abs(static_cast<double>(got) - exactly) <= lost) && ulp_error(got, exactly) > 3;
    };
    for (const Set& set : sets()) {
      Guarded y(x.size() * sizeof(float));
      std::memcpy(y.data(), x.data(), x.size() * sizeof(float));
      for (int64_t o = 0; o < outer; ++o) {
        float* at = y.as<float>() + o * count * inner;
        (log ? set.rows->log_softmax : set.rows->softmax)(at, at, count, inner, inner);
      }
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_FALSE(wrong(y.as<float>()[i], want[i]))
            << call.op << " " << set.name << " of " << outer << "x" << count << "x" << inner << " round " << round
            << ": " << y.as<float>()[i] << " instead of " << want[i];
    }
    std::vector<float> y(x.size());
    softmax(x.data(), y.data(), outer, count, inner, log, 2);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_FALSE(wrong(y[i], want[i])) << call.op << " round " << round;
  }
}

}  // namespace
}  // namespace slipway
