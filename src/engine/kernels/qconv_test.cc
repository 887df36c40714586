// Every tactic of the table against the scalar one, bit for bit, over random shapes, encodings and epilogues, in memory
// between guard pages; extreme weights and inputs; damaged packed weights; reasons of rejection.
#include "engine/kernels/qconv.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "base/random.h"
#include "engine/kernels/guarded.h"
#include "engine/kernels/qconv_form.h"

namespace slipway {
namespace {

struct QConvCase {
  QConvSpec spec;
  std::vector<int8_t> w;
  std::vector<int32_t> bias;
  std::vector<float> multiplier, addend;
  QConvWeights weights() const {
    return {w.data(), bias.empty() ? nullptr : bias.data(), multiplier.data(),
            addend.empty() ? nullptr : addend.data()};
  }
};

int64_t between(Random& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
}

Int8Encoding random_encoding(Random& random) {
  Int8Encoding e;
  e.type = random.below(2) ? Int8Type::kS8 : Int8Type::kU8;
  const int32_t low = e.type == Int8Type::kS8 ? -128 : 0;
  e.lo = low, e.hi = low + 255;
  switch (random.below(4)) {
    case 0:
      e.lo = 0, e.hi = 127, e.zero_point = 0;
      break;
    case 1:
      e.zero_point = static_cast<int32_t>(between(random, low, low + 255));
      break;
    case 2:
      e.zero_point = low + 128;
      break;
    default:
      e.lo = static_cast<int32_t>(between(random, low, low + 200));
      e.hi = static_cast<int32_t>(between(random, e.lo, low + 255));
      e.zero_point = static_cast<int32_t>(between(random, low, low + 255));
  }
  return e;
}

QConvShape random_shape(Random& random) {
  QConvShape s;
  const int64_t kind = between(random, 0, 9);
  const int64_t most = random.below(8) == 0 ? 70 : 20;
  s.n = between(random, 1, 3);
  s.c = between(random, 1, most), s.oc = between(random, 1, most);
  if (kind == 0) {  // Gemm
    s.n = between(random, 1, 20), s.c = between(random, 1, 300);
    return s;
  }
  s.kh = between(random, 1, kind < 4 ? 3 : 5), s.kw = between(random, 1, kind < 4 ? 3 : 5);
  if (kind == 1) s.kh = s.kw = 1;
  s.stride_h = between(random, 1, 3), s.stride_w = between(random, 1, 2);
  if (kind == 1 || kind > 6) s.stride_h = s.stride_w = 1;
  if (random.below(4) == 0) s.dilation_h = between(random, 1, 3), s.dilation_w = between(random, 1, 3);
  if (kind == 2)
    s.groups = between(random, 1, 4), s.c = s.groups * between(random, 1, 9), s.oc = s.groups * between(random, 1, 20);
  if (kind == 3) s.groups = s.c, s.oc = s.c * (random.below(4) == 0 ? 2 : 1);
  const int64_t reach_h = (s.kh - 1) * s.dilation_h + 1, reach_w = (s.kw - 1) * s.dilation_w + 1;
  s.oh = between(random, 1, 9), s.ow = between(random, 1, 19);
  s.pad_top = random.below(3) ? between(random, 0, reach_h - 1) : 0;
  s.pad_left = random.below(3) ? between(random, 0, reach_w - 1) : 0;
  const int64_t bottom = between(random, 0, s.pad_top), right = between(random, 0, s.pad_left);
  s.h = std::max<int64_t>(1, (s.oh - 1) * s.stride_h + reach_h - s.pad_top - bottom);
  s.w = std::max<int64_t>(1, (s.ow - 1) * s.stride_w + reach_w - s.pad_left - right);
  return s;
}

QConvCase random_case(Random& random) {
  QConvCase c;
  c.spec.shape = random_shape(random);
  c.spec.x = random_encoding(random);
  QConvEpilogue& e = c.spec.epilogue;
  e.output = random.below(5) == 0 ? QConvOutput::kFloat : QConvOutput::kInt8;
  e.y = random_encoding(random);
  e.has_residual = random.below(3) == 0;
  e.residual = random_encoding(random);
  e.residual_multiplier = static_cast<float>(random.uniform() * 2);
  e.has_mid = random.below(4) == 0;
  e.mid_zero_point = static_cast<int32_t>(between(random, -10, 10));
  e.mid_multiplier = static_cast<float>(random.uniform() * 2);
  const QConvShape& s = c.spec.shape;
  const int64_t filter = s.c / s.groups * s.kh * s.kw;
  const uint64_t style = random.below(4);
  const double spread = style == 3 ? 8 : 40;
  c.w.resize(static_cast<size_t>(s.oc * filter));
  for (int8_t& w : c.w) {
    if (style == 0) {
      w = random.below(2) ? 127 : -128;
    } else if (style == 1) {
      w = 127;
    } else {
      w = static_cast<int8_t>(std::clamp(random.normal() * spread, -127.0, 127.0));
    }
  }
  if (random.below(4))
    for (int64_t i = 0; i < s.oc; ++i) c.bias.push_back(static_cast<int32_t>(between(random, -20000, 20000)));
  for (int64_t i = 0; i < s.oc; ++i)
    c.multiplier.push_back(static_cast<float>((0.2 + random.uniform()) / (40.0 * std::sqrt(filter) * spread)));
  if (random.below(20) == 0) c.multiplier[0] = 1e18f;
  if (random.below(3) == 0)
    for (int64_t i = 0; i < s.oc; ++i) c.addend.push_back(static_cast<float>(random.normal() * 20));
  return c;
}

size_t x_bytes(const QConvSpec& spec) {
  return static_cast<size_t>(spec.shape.n * spec.shape.h * spec.shape.w * spec.shape.c);
}

size_t y_elements(const QConvSpec& spec) {
  return static_cast<size_t>(spec.shape.n * spec.shape.oh * spec.shape.ow * spec.shape.oc);
}

void fill(Random& random, const Int8Encoding& e, bool ends_only, uint8_t* x, size_t count) {
  for (size_t i = 0; i < count; ++i)
    x[i] = static_cast<uint8_t>(ends_only ? (random.below(2) ? e.hi : e.lo) : between(random, e.lo, e.hi));
}

std::string describe(const QConvSpec& spec) {
  const QConvShape& s = spec.shape;
  const QConvEpilogue& e = spec.epilogue;
  return fmt::format(
      "n{} {}x{}x{} -> {}x{}x{} kernel {}x{} stride {}x{} pad {},{} dilation {}x{} groups {} x {} zp {} [{},{}] out {} "
      "mid "
      "{} residual {}",
      s.n, s.h, s.w, s.c, s.oh, s.ow, s.oc, s.kh, s.kw, s.stride_h, s.stride_w, s.pad_top, s.pad_left, s.dilation_h,
      s.dilation_w, s.groups, spec.x.type == Int8Type::kS8 ? "s8" : "u8", spec.x.zero_point, spec.x.lo, spec.x.hi,
      static_cast<int>(e.output), e.has_mid, e.has_residual);
}

/// In place if the residual may be overwritten.
std::vector<uint8_t> run(const QConvTactic& tactic, const QConvCase& c, const QConvPacked& packed, const uint8_t* x,
                         const std::vector<uint8_t>& residual, int threads, bool in_place) {
  const size_t size = c.spec.epilogue.output == QConvOutput::kFloat ? 4 : 1;
  Guarded y(y_elements(c.spec) * size), r(residual.size());
  std::memset(y.data(), 0xa5, y_elements(c.spec) * size);
  if (!residual.empty()) std::memcpy(r.data(), residual.data(), residual.size());
  if (in_place) std::memcpy(y.data(), residual.data(), residual.size());
  const size_t scratch_bytes = tactic.scratch_bytes(c.spec, threads);
  Guarded scratch(scratch_bytes, 64);
  std::memset(scratch.data(), 0xff, scratch_bytes);
  tactic.run(c.spec, packed.data.get(), x, in_place ? y.data() : r.data(), y.data(), scratch.as<std::byte>(), threads);
  return {y.data(), y.data() + y_elements(c.spec) * size};
}

uint64_t seed_of_this_run() {
  if (const char* given = std::getenv("SLIPWAY_SEED")) return std::strtoull(given, nullptr, 10);
  return std::random_device{}();
}

TEST(QConv, EveryTacticEqualsTheReference) {
  const uint64_t seed = seed_of_this_run();
  std::printf("SLIPWAY_SEED=%llu\n", static_cast<unsigned long long>(seed));
  Random random(seed);
  std::vector<int> compared(qconv_tactics().size(), 0);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100 || std::chrono::steady_clock::now() - start < std::chrono::milliseconds(2500); ++i) {
    const QConvCase c = random_case(random);
    SCOPED_TRACE(describe(c.spec));
    ASSERT_EQ(invalid_qconv(c.spec, c.weights()), "");
    Guarded x(x_bytes(c.spec));
    fill(random, c.spec.x, random.below(3) == 0, x.data(), x_bytes(c.spec));
    std::vector<uint8_t> residual(c.spec.epilogue.has_residual ? y_elements(c.spec) : 0);
    fill(random, c.spec.epilogue.residual, false, residual.data(), residual.size());
    const QConvTactic& oracle = qconv_tactics().back();
    const auto expected = run(oracle, c, oracle.pack(c.spec, c.weights()), x.data(), residual, 1, false);
    for (size_t t = 0; t + 1 < qconv_tactics().size(); ++t) {
      const QConvTactic& tactic = qconv_tactics()[t];
      if (!isa_available(tactic.isa) || !tactic.reject(c.spec, c.weights()).empty()) continue;
      const QConvPacked packed = tactic.pack(c.spec, c.weights());
      ASSERT_EQ(tactic.check(c.spec, {packed.data.get(), packed.bytes}), "") << tactic.name;
      const bool in_place = !residual.empty() && c.spec.epilogue.output == QConvOutput::kInt8 && random.below(2);
      const int threads = static_cast<int>(between(random, 1, 3));
      ASSERT_EQ(run(tactic, c, packed, x.data(), residual, threads, in_place), expected)
          << tactic.name << ", " << threads << " threads" << (in_place ? ", in place" : "");
      ++compared[t];
    }
  }
  for (size_t t = 0; t + 1 < qconv_tactics().size(); ++t) {
    const QConvTactic& tactic = qconv_tactics()[t];
    std::printf("%-28s %d cases\n", tactic.name, compared[t]);
    EXPECT_TRUE(compared[t] > 0 || !isa_available(tactic.isa)) << tactic.name;
  }
}

/// A convolution of a whole layer's size.
QConvCase layer(int64_t n, int64_t size, int64_t c, int64_t oc, int64_t k, int64_t stride, Int8Encoding x,
                double spread) {
  QConvCase layer;
  QConvShape& s = layer.spec.shape;
  s.n = n, s.h = s.w = size, s.c = c, s.oc = oc, s.kh = s.kw = k, s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = k / 2;
  s.oh = s.ow = (size - 1) / stride + 1;
  layer.spec.x = x;
  layer.spec.epilogue.y = {Int8Type::kS8, 0, 0, 127};
  Random random(7);
  for (int64_t i = 0; i < oc * c * k * k; ++i)
    layer.w.push_back(static_cast<int8_t>(std::clamp(random.normal() * spread, -127.0, 127.0)));
  layer.multiplier.assign(static_cast<size_t>(oc), 1e-4f);
  return layer;
}

TEST(QConv, TheDefinitionByHand) {
  QConvCase c = layer(1, 1, 2, 1, 1, 1, {Int8Type::kU8, 3, 0, 255}, 1);
  c.w = {5, -7};
  c.bias = {11};
  c.multiplier = {0.5f};
  c.addend = {1.25f};
  c.spec.epilogue.y = {Int8Type::kS8, 1, -128, 127};
  c.spec.epilogue.has_mid = true;
  c.spec.epilogue.mid_multiplier = 0.25f;
  c.spec.epilogue.has_residual = true;
  c.spec.epilogue.residual = {Int8Type::kS8, 2, -128, 127};
  c.spec.epilogue.residual_multiplier = 1.5f;
  const uint8_t x[] = {10, 4};         // (10 − 3)·5 − (4 − 3)·7 + 11 = 39; 19.5 + 1.25 rounds to 21; 5.25
  const std::vector<uint8_t> r = {5};  // + 3·1.5 = 9.75 rounds to 10; + 1
  for (const QConvTactic& tactic : qconv_tactics()) {
    if (!isa_available(tactic.isa) || !tactic.reject(c.spec, c.weights()).empty()) continue;
    EXPECT_EQ(run(tactic, c, tactic.pack(c.spec, c.weights()), x, r, 1, false), std::vector<uint8_t>{11})
        << tactic.name;
  }
}

TEST(QConv, RefusesSaturationWithAReason) {
  const QConvCase wide = layer(1, 8, 16, 16, 3, 1, {Int8Type::kU8, 128, 0, 255}, 60);
  const QConvCase relu = layer(1, 8, 16, 16, 3, 1, {Int8Type::kS8, 0, 0, 127}, 60);
  const QConvTactic* maddubs = find_qconv_tactic("qconv_maddubs_avx2");
  ASSERT_NE(maddubs, nullptr);
  EXPECT_NE(maddubs->reject(wide.spec, wide.weights()).find("input may reach 255: vpmaddubsw would saturate"),
            std::string::npos);
  EXPECT_EQ(maddubs->reject(relu.spec, relu.weights()), "");
  EXPECT_EQ(find_qconv_tactic("no such tactic"), nullptr);
  const QConvTactic* selected = select_qconv_tactic(relu.spec, relu.weights());
  ASSERT_NE(selected, nullptr);
  EXPECT_TRUE(isa_available(selected->isa));
}

TEST(QConv, InvalidSpecsAreNamed) {
  const QConvCase good = layer(1, 8, 16, 16, 3, 1, {Int8Type::kS8, 0, 0, 127}, 40);
  ASSERT_EQ(invalid_qconv(good.spec, good.weights()), "");
  const auto broken = [&](auto change) {
    QConvCase c = good;
    change(c);
    return !invalid_qconv(c.spec, c.weights()).empty();
  };
  EXPECT_TRUE(broken([](QConvCase& c) { c.spec.shape.c = 0; }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.spec.shape.groups = 3; }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.spec.shape.pad_left = -1; }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.spec.shape.w = c.spec.shape.h = c.spec.shape.n = int64_t{1} << 28; }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.spec.x.hi = 128; }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.spec.epilogue.y.lo = 128; }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.multiplier[3] = std::numeric_limits<float>::infinity(); }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.multiplier[3] = std::numeric_limits<float>::quiet_NaN(); }));
  EXPECT_TRUE(broken([](QConvCase& c) { c.addend.assign(16, std::numeric_limits<float>::infinity()); }));
}

TEST(QConv, DamagedPackedWeightsAreRefusedOrHarmless) {
  Random random(3);
  const QConvCase c = layer(1, 6, 5, 20, 3, 1, {Int8Type::kS8, 0, 0, 127}, 40);
  Guarded x(x_bytes(c.spec));
  fill(random, c.spec.x, false, x.data(), x_bytes(c.spec));
  for (const QConvTactic& tactic : qconv_tactics()) {
    if (!isa_available(tactic.isa) || !tactic.reject(c.spec, c.weights()).empty()) continue;
    QConvPacked packed = tactic.pack(c.spec, c.weights());
    EXPECT_NE(tactic.check(c.spec, {packed.data.get(), packed.bytes - 1}), "") << tactic.name;
    QConvCase other = c;
    other.spec.shape.pad_left = 2;
    EXPECT_NE(tactic.check(other.spec, {packed.data.get(), packed.bytes}), "") << tactic.name;
    for (int i = 0; i < 3000; ++i) {
      const size_t at = random.below(std::min<size_t>(packed.bytes, 600));
      const std::byte was = packed.data[at];
      packed.data[at] = static_cast<std::byte>(random.next());
      if (tactic.check(c.spec, {packed.data.get(), packed.bytes}).empty())
        run(tactic, c, packed, x.data(), {}, 1, false);
      packed.data[at] = was;
    }
  }
}

}  // namespace
}  // namespace slipway
