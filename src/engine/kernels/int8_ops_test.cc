// The AVX2 row loops against the scalar ones, bit for bit, with every tail length, between guard pages; the operators
// against their definitions, written again here.
#include "engine/kernels/int8_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"
#include "engine/kernels/guarded.h"
#include "engine/kernels/int8_rows.h"

namespace slipway {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes random_bytes(Random& random, int64_t count) {
  Bytes bytes(static_cast<size_t>(count));
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random.next());
  return bytes;
}

const Int8Encoding kEncodings[] = {{Int8Type::kS8, 0, -127, 127},
                                   {Int8Type::kS8, -5, -128, 127},
                                   {Int8Type::kU8, 128, 0, 255},
                                   {Int8Type::kU8, 3, 3, 200},
                                   {Int8Type::kS8, 0, 0, 127}};

RowRange range_of(const Int8Encoding& e) {
  return {static_cast<float>(e.lo - e.zero_point), static_cast<float>(e.hi - e.zero_point), e.zero_point};
}

float hard_float(Random& random) {
  switch (random.below(12)) {
    case 0:
      return std::numeric_limits<float>::quiet_NaN();
    case 1:
      return std::numeric_limits<float>::infinity();
    case 2:
      return -std::numeric_limits<float>::infinity();
    case 3:
      return std::numeric_limits<float>::max();
    case 4:
      return -std::numeric_limits<float>::denorm_min();
    case 5:
      return static_cast<float>(static_cast<int64_t>(random.below(300)) - 150) * 0.5f * 0.1f;  // ties
    default:
      return static_cast<float>(random.normal() * 10);
  }
}

class Int8RowsEqual : public ::testing::TestWithParam<int> {
  void SetUp() override {
    if (!isa_available(Isa::kAvx2)) GTEST_SKIP() << "no AVX2 here";
  }
};

TEST_P(Int8RowsEqual, OnEveryTail) {
  Random random(static_cast<uint64_t>(GetParam()) + 1);
  const Int8Encoding& e = kEncodings[GetParam()];
  const RowRange range = range_of(e);
  for (int64_t count = 1; count <= 100; ++count) {
    const auto bytes = static_cast<size_t>(count);
    Guarded floats(bytes * 4), a(bytes), b(bytes), got(bytes), want(bytes), got_f(bytes * 4), want_f(bytes * 4);
    for (int64_t i = 0; i < count; ++i) floats.as<float>()[i] = hard_float(random);
    std::memcpy(a.data(), random_bytes(random, count).data(), bytes);
    std::memcpy(b.data(), random_bytes(random, count).data(), bytes);
    const auto same = [&](const char* what) {
      EXPECT_EQ(std::memcmp(got.data(), want.data(), bytes), 0) << what << ", " << count << " elements";
    };
    kInt8RowsScalar.quantize(floats.as<float>(), want.data(), count, 0.1f, &range);
    kInt8RowsAvx2.quantize(floats.as<float>(), got.data(), count, 0.1f, &range);
    same("quantize");
    const RowTerm term_a = {a.data(), e.type == Int8Type::kS8, e.zero_point, 0.37f};
    const RowTerm term_b = {b.data(), count % 2 == 0, 7, 1.91f};
    kInt8RowsScalar.add(&term_a, &term_b, want.data(), count, &range);
    kInt8RowsAvx2.add(&term_a, &term_b, got.data(), count, &range);
    same("add");
    kInt8RowsScalar.add(&term_a, nullptr, want.data(), count, &range);
    kInt8RowsAvx2.add(&term_a, nullptr, got.data(), count, &range);
    same("requantize");
    kInt8RowsScalar.dequantize(&term_a, want_f.as<float>(), count);
    kInt8RowsAvx2.dequantize(&term_a, got_f.as<float>(), count);
    EXPECT_EQ(std::memcmp(got_f.data(), want_f.data(), bytes * 4), 0) << count;
    Guarded cells(bytes * 12);
    std::memcpy(cells.data(), random_bytes(random, count * 12).data(), bytes * 12);
    const RowGrid grid = {cells.data() + count, 3, 2, 4 * count, 2 * count};
    kInt8RowsScalar.max(&grid, term_a.is_signed, want.data(), count);
    kInt8RowsAvx2.max(&grid, term_a.is_signed, got.data(), count);
    same("max");
    kInt8RowsScalar.mean(&grid, term_a.is_signed, 6 * e.zero_point, 0.21f, want.data(), count, &range);
    kInt8RowsAvx2.mean(&grid, term_a.is_signed, 6 * e.zero_point, 0.21f, got.data(), count, &range);
    same("mean");
  }
}

INSTANTIATE_TEST_SUITE_P(Encodings, Int8RowsEqual, ::testing::Range(0, 5));

TEST(Int8Ops, QuantizeRoundsHalfToEvenAndSaturates) {
  const float x[] = {0.5f, 1.5f, -2.5f, 1000, -1000, std::nanf("")};
  int8_t y[6];
  quantize(x, y, 6, 1.0f, {Int8Type::kS8, 0, -127, 127}, 1);
  EXPECT_EQ(std::vector<int>(y, y + 6), (std::vector<int>{0, 2, -2, 127, -127, -127}));
  quantize(x, y, 3, 0.5f, {Int8Type::kS8, 10, -128, 127}, 1);
  EXPECT_EQ(std::vector<int>(y, y + 3), (std::vector<int>{11, 13, 5}));
}

TEST(Int8Ops, LayoutsChangeOnTheWay) {
  Random random(5);
  for (const ImageShape image : {ImageShape{2, 5, 7, 3}, ImageShape{1, 9, 9, 130}, ImageShape{3, 1, 1, 10}}) {
    const Int8Encoding e = {Int8Type::kU8, 100, 0, 255};
    const int64_t plane = image.h * image.w, count = image.n * plane * image.c;
    std::vector<float> nchw(static_cast<size_t>(count)), nhwc(nchw.size()), back(nchw.size()), straight(nchw.size());
    for (float& f : nchw) f = static_cast<float>(random.normal());
    const auto nhwc_of = [&](int64_t i) {
      const int64_t n = i / (plane * image.c), c = i / plane % image.c, p = i % plane;
      return static_cast<size_t>((n * plane + p) * image.c + c);
    };
    for (int64_t i = 0; i < count; ++i) nhwc[nhwc_of(i)] = nchw[static_cast<size_t>(i)];
    Bytes fused(nchw.size()), plain(nchw.size());
    quantize_nchw_to_nhwc(nchw.data(), fused.data(), image, 0.05f, e, 2);
    quantize(nhwc.data(), plain.data(), count, 0.05f, e, 1);
    EXPECT_EQ(fused, plain);
    dequantize_nhwc_to_nchw(fused.data(), back.data(), image, 0.05f, e, 2);
    dequantize(plain.data(), straight.data(), count, 0.05f, e, 3);
    for (int64_t i = 0; i < count; ++i) EXPECT_EQ(back[static_cast<size_t>(i)], straight[nhwc_of(i)]);
  }
}

TEST(Int8Ops, AddAndColumnsAndLookup) {
  Random random(6);
  QAdd op;
  op.a = {Int8Type::kS8, 0, -127, 127}, op.b = {Int8Type::kU8, 9, 0, 255}, op.y = {Int8Type::kS8, 1, 1, 127};
  op.a_multiplier = 0.75f, op.b_multiplier = 0.5f;
  const int64_t count = 9001;
  const Bytes a = random_bytes(random, count), b = random_bytes(random, count);
  Bytes y(a.size()), z(a.size());
  qadd(op, a.data(), b.data(), y.data(), count, 2);
  for (size_t i = 0; i < y.size(); ++i) {
    const double f = static_cast<int8_t>(a[i]) * 0.75 + (b[i] - 9) * 0.5;
    const int want = std::clamp(static_cast<int>(std::nearbyint(f)) + 1, 1, 127);
    ASSERT_EQ(static_cast<int8_t>(y[i]), want) << i;
  }
  z = a;
  qadd(op, z.data(), b.data(), z.data(), count, 2);
  EXPECT_EQ(z, y) << "in place";

  uint8_t table[256];
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i * 7 + 1);
  lookup(table, a.data(), z.data(), count, 2);
  for (size_t i = 0; i < z.size(); ++i) ASSERT_EQ(z[i], static_cast<uint8_t>(a[i] * 7 + 1));

  Bytes joined(1000 * 9, 0xee);
  copy_columns(a.data(), 5, joined.data(), 9, 1000, 5, 2);
  requantize_columns(op, b.data(), 3, joined.data() + 5, 9, 1000, 3, 2);
  qadd(op, b.data(), nullptr, z.data(), 3000, 1);
  for (size_t r = 0; r < 1000; ++r) {
    ASSERT_EQ(std::memcmp(&joined[r * 9], &a[r * 5], 5), 0);
    ASSERT_EQ(std::memcmp(&joined[r * 9 + 5], &z[r * 3], 3), 0);
    ASSERT_EQ(joined[r * 9 + 8], 0xee);
  }
}

TEST(Int8Ops, PoolsEqualTheirDefinition) {
  Random random(8);
  for (int i = 0; i < 300; ++i) {
    QPool op;
    const auto pick = [&](uint64_t most) { return static_cast<int64_t>(1 + random.below(most)); };
    op.x = {pick(2), pick(9), pick(9), pick(70)};
    op.kh = pick(4), op.kw = pick(4), op.stride_h = pick(3), op.stride_w = pick(3), op.oh = pick(4), op.ow = pick(5);
    op.pad_top = pick(3) - 1, op.pad_left = pick(3) - 1, op.dilation_h = pick(2), op.dilation_w = pick(2);
    op.count_include_pad = random.below(2);
    op.in = kEncodings[random.below(5)], op.out = kEncodings[random.below(5)];
    op.multiplier = 0.8f;
    const Bytes x = random_bytes(random, op.x.n * op.x.h * op.x.w * op.x.c);
    Bytes most(static_cast<size_t>(op.x.n * op.oh * op.ow * op.x.c)), mean(most.size());
    qmaxpool(op, x.data(), most.data(), 2);
    qavgpool(op, x.data(), mean.data(), 2);
    for (int64_t o = 0; o < static_cast<int64_t>(most.size()); ++o) {
      const int64_t c = o % op.x.c, ox = o / op.x.c % op.ow, oy = o / op.x.c / op.ow % op.oh,
                    n = o / op.x.c / op.ow / op.oh;
      int32_t largest = op.in.type == Int8Type::kS8 ? -128 : 0, sum = 0;
      int cells = 0;
      for (int64_t ky = 0; ky < op.kh; ++ky) {
        for (int64_t kx = 0; kx < op.kw; ++kx) {
          const int64_t iy = oy * op.stride_h - op.pad_top + ky * op.dilation_h;
          const int64_t ix = ox * op.stride_w - op.pad_left + kx * op.dilation_w;
          if (iy < 0 || iy >= op.x.h || ix < 0 || ix >= op.x.w) continue;
          const int32_t q = load_int8(op.in.type, x.data(), ((n * op.x.h + iy) * op.x.w + ix) * op.x.c + c);
          largest = std::max(largest, q);
          sum += q - op.in.zero_point;
          ++cells;
        }
      }
      if (op.count_include_pad) cells = static_cast<int>(op.kh * op.kw);
      const float f = static_cast<float>(sum) * (op.multiplier / static_cast<float>(std::max(cells, 1)));
      const int32_t average = round_to_int8(f, op.out.zero_point, op.out.lo, op.out.hi);
      ASSERT_EQ(most[static_cast<size_t>(o)], static_cast<uint8_t>(largest)) << i << " " << o;
      ASSERT_EQ(mean[static_cast<size_t>(o)], static_cast<uint8_t>(average)) << i << " " << o;
    }
  }
}

}  // namespace
}  // namespace slipway
