// Candidates keep their meaning: whatever was asked of oneDNN before, and whatever its cache of primitives still holds,
// a plan's variants name the implementations that it was built with. Images of one pixel or one channel, matrices of
// one row or column are where two layouts are the same bytes.
#include "engine/lower/onednn.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/passes/pipeline.h"

namespace slipway {
namespace {

// Convolutions over one pixel, of one channel, depthwise ones onto one pixel, products of one row, column and both.
std::string squeeze_and_excite_text(int channels, int squeezed, int size) {
  return fmt::format(R"(graph "squeeze" ir 8 opset {{"": 14}} {{
  input %x : f32[N,{0},{2},{2}]
  input %w_d : f32[{0},1,3,3]
  input %w_s : f32[{1},{0},1,1]
  input %w_sb : f32[{1}]
  input %w_e : f32[{0},{1},1,1]
  input %w_eb : f32[{0}]
  input %w_o : f32[1,{0},1,1]
  input %w_p : f32[{0},1,1,1]
  input %w_g : f32[1,1,3,3]
  input %w_h : f32[{0},1,{2},{2}]
  input %w_f : f32[1,{0}]
  input %w_u : f32[{0},1]
  input %w_c : f32[{1},{0},3,3]
  %d = Conv(%x, %w_d) {{pads = [1, 1, 1, 1], group = {0}}} "depthwise"
  %r = HardSwish(%d) "swish"
  %g = GlobalAveragePool(%r) "pool"
  %s = Conv(%g, %w_s, %w_sb) "squeeze"
  %sr = Relu(%s) "relu"
  %e = Conv(%sr, %w_e, %w_eb) "excite"
  %h = HardSigmoid(%e) {{alpha = 0.1666667, beta = 0.5}} "gate"
  %m = Mul(%r, %h) "scale"
  %o = Conv(%m, %w_o) "one channel"
  %og = Conv(%o, %w_g) {{pads = [1, 1, 1, 1]}} "one to one channel"
  %p = Conv(%og, %w_p) "from one channel"
  %a = Add(%p, %m) "add"
  %wide = Conv(%e, %w_c) {{pads = [1, 1, 2, 1]}} "one pixel to several"
  %l = Conv(%a, %w_h) {{group = {0}}} "depthwise onto one pixel"
  %lm = MaxPool(%l) {{kernel_shape = [1, 1]}} "pool of one pixel"
  %v = Flatten(%lm) "flatten"
  %f = Gemm(%v, %w_f) {{transB = 1}} "column"
  %t = MatMul(%f, %w_f) "row"
  %y = Gemm(%f, %w_u) {{transB = 1}} "outer"
  %z = Gemm(%v, %w_u) "inner"
  output %y, %z, %t, %wide
}})",
                     channels, squeezed, size);
}

/// Drops every cached primitive and descriptor, as a fresh process has none.
void empty_primitive_cache() {
  const int capacity = dnnl::get_primitive_cache_capacity();
  dnnl::set_primitive_cache_capacity(0);
  dnnl::set_primitive_cache_capacity(capacity);
}

/// How far two tensors are apart, of the larger of 0.1 and the largest element. Weights in another's layout are off by
/// as much as they are large; sums that cancel, as these nets have them, by far less than this.
constexpr double kRoughly = 1e-3;
double apart(const Tensor& actual, const Tensor& expected) {
  if (actual.dims() != expected.dims()) return INFINITY;
  const std::vector<double> a = to_doubles(actual), e = to_doubles(expected);
  double largest = 0.1, off = 0;
  for (size_t i = 0; i < e.size(); ++i) {
    largest = std::max(largest, std::abs(e[i]));
    const double by = std::abs(a[i] - e[i]);
    off = std::isnan(by) ? INFINITY : std::max(off, by);
  }
  return off / largest;
}

TEST(OneDnn, VariantsMeanTheSameWhoeverAsksFirst) {
  // Others with --gtest_shuffle --gtest_repeat=N.
  const uint64_t seed = 20241128 + static_cast<uint64_t>(::testing::UnitTest::GetInstance()->random_seed());
  Random random(seed);
  const std::string path = ::testing::TempDir() + fmt::format("slipway-variants-{}.plan", ::getpid());
  for (int round = 0; round < 60; ++round) {
    const int widths[] = {1, 2, 3, 8, 16, 24};
    const int channels = widths[random.below(6)], squeezed = widths[random.below(6)];
    const int size = 1 + static_cast<int>(random.below(5));
    const int64_t batch = 1 + static_cast<int64_t>(random.below(2));
    SCOPED_TRACE(fmt::format("seed {} round {}: {} channels, {} squeezed, size {}, batch {}", seed, round, channels,
                             squeezed, size, batch));
    const Graph graph = random_graph(squeeze_and_excite_text(channels, squeezed, size), random);
    Graph bound = graph;
    bind_batch(bound, batch);
    infer_shapes(bound);
    const std::vector<Tensor> inputs = random_inputs(bound, random);
    const std::vector<Tensor> expected = evaluate(bound, inputs);
    if (random.below(3) == 0) empty_primitive_cache();
    const auto built = Plan::build(graph, {.batch = batch, .choice_seed = random.below(1 << 30)});
    built->save(path);
    if (random.below(2) == 0) empty_primitive_cache();
    const auto opened = Plan::open(path);
    for (const auto& plan : {built, opened}) {
      const std::vector<Tensor> actual = run_plan(plan, inputs);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_LE(apart(actual[i], expected[i]), kRoughly) << i;
    }
  }
  ::unlink(path.c_str());
}

TEST(OneDnn, DigestsWhatADescriptorMeans) {
  const auto f32 = dnnl::memory::data_type::f32;
  const dnnl::memory::desc a({4, 1, 3}, f32, {3, 3, 1});
  dnnl::memory::desc b({4, 1, 3}, f32, {3, 77, 1});
  b.data.extra.compensation_mask = 5;
  b.data.format_desc.blocking.inner_blks[0] = 9;
  EXPECT_EQ(onednn_variant("x", a), onednn_variant("x", b));
  for (const dnnl::memory::desc& other :
       {dnnl::memory::desc({4, 1, 3}, f32, {1, 4, 4}), dnnl::memory::desc({4, 3}, f32, {3, 1}),
        dnnl::memory::desc({4, 1, 3}, dnnl::memory::data_type::s32, {3, 3, 1}),
        dnnl::memory::desc({4, 1, 3}, f32, dnnl::memory::format_tag::aBc16b)})
    EXPECT_NE(onednn_variant("x", a), onednn_variant("x", other));
}

// Layouts that are the same bytes have one descriptor, also as oneDNN sees it: it skips the strides of single elements.
TEST(OneDnn, EqualArrangementsHaveOneDescriptor) {
  const auto bytes = [](const dnnl::memory::desc& d) {
    return std::string_view(reinterpret_cast<const char*>(&d.data), sizeof d.data);
  };
  for (const Dims& x : {Dims{1, 1, 5, 6}, Dims{2, 7, 1, 1}, Dims{1, 1, 1, 1}, Dims{1, 4, 5, 6}, Dims{3, 1, 1, 9}})
    for (const Dims& y : {Dims{1, 1, 5, 6}, Dims{2, 7, 1, 1}, Dims{1, 1, 1, 1}, Dims{1, 4, 5, 6}, Dims{3, 1, 1, 9}})
      for (const Layout in : kAllLayouts)
        for (const Layout out : kAllLayouts)
          for (const Layout other_in : kAllLayouts)
            for (const Layout other_out : kAllLayouts) {
              const ImageDescs a = onednn_images(in, out, x, y), b = onednn_images(other_in, other_out, x, y);
              if (a.in == b.in && a.out == b.out) {
                EXPECT_EQ(bytes(a.in), bytes(b.in)) << to_string(in) << to_string(out) << to_string(other_in);
                EXPECT_EQ(bytes(a.out), bytes(b.out)) << to_string(in) << to_string(out) << to_string(other_out);
              }
            }
}

}  // namespace
}  // namespace slipway
