// Every INT8 convolution tactic on layers of ResNet-20, ResNet-50 and MobileNet, one thread; weights are normal, as
// trained ones nearly are. Counter: multiplications per second.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/random.h"
#include "engine/kernels/qconv.h"

namespace slipway {
namespace {

struct Layer {
  const char* name;
  int64_t size, c, oc, k, stride;
  Int8Encoding x;
  bool depthwise = false;
};

constexpr Int8Encoding kRelu = {Int8Type::kS8, 0, 0, 127};
constexpr Int8Encoding kSigned = {Int8Type::kS8, 0, -127, 127};
constexpr Int8Encoding kUnsigned = {Int8Type::kU8, 0, 0, 255};

constexpr Layer kLayers[] = {
    {"3x3_3-16_32_image", 32, 3, 16, 3, 1, kSigned},
    {"3x3_16-16_32", 32, 16, 16, 3, 1, kRelu},
    {"3x3_16-32_32_stride2", 32, 16, 32, 3, 2, kRelu},
    {"3x3_32-32_16", 16, 32, 32, 3, 1, kRelu},
    {"3x3_32-64_16_stride2", 16, 32, 64, 3, 2, kRelu},
    {"3x3_64-64_8", 8, 64, 64, 3, 1, kRelu},
    {"1x1_16-32_32_stride2", 32, 16, 32, 1, 2, kRelu},
    {"1x1_256-64_56", 56, 256, 64, 1, 1, kRelu},
    {"3x3_64-64_56", 56, 64, 64, 3, 1, kRelu},
    {"3x3_512-512_7", 7, 512, 512, 3, 1, kRelu},
    {"3x3_depthwise_96_56", 56, 96, 96, 3, 1, kSigned, true},
    {"3x3_depthwise_384_14", 14, 384, 384, 3, 1, kSigned, true},
    {"3x3_32-32_16_u8", 16, 32, 32, 3, 1, kUnsigned},
    {"3x3_32-32_16_s8", 16, 32, 32, 3, 1, kSigned},
};

void bench(benchmark::State& state, const Layer& layer, const QConvTactic& tactic, bool residual) {
  QConvSpec spec;
  QConvShape& s = spec.shape;
  s.h = s.w = layer.size, s.c = layer.c, s.oc = layer.oc, s.kh = s.kw = layer.k;
  s.stride_h = s.stride_w = layer.stride, s.pad_top = s.pad_left = layer.k / 2;
  s.oh = s.ow = (layer.size - 1) / layer.stride + 1;
  s.groups = layer.depthwise ? layer.c : 1;
  spec.x = layer.x;
  spec.epilogue.y = kRelu;
  spec.epilogue.has_residual = residual;
  spec.epilogue.residual = kRelu;
  Random random(1);
  const int64_t macs_per_pixel = s.oc * (s.c / s.groups) * s.kh * s.kw;
  std::vector<int8_t> w(static_cast<size_t>(macs_per_pixel));
  for (int8_t& q : w) q = static_cast<int8_t>(std::clamp(random.normal() * 36, -127.0, 127.0));
  const std::vector<float> multiplier(static_cast<size_t>(s.oc), 1e-4f);
  const QConvWeights weights = {w.data(), nullptr, multiplier.data()};
  if (const std::string why = tactic.reject(spec, weights); !why.empty()) return state.SkipWithError(why.c_str());
  std::vector<uint8_t> x(static_cast<size_t>(s.h * s.w * s.c)), y(static_cast<size_t>(s.oh * s.ow * s.oc)), r(y.size());
  for (uint8_t& q : x) q = static_cast<uint8_t>(layer.x.lo + static_cast<int32_t>(random.below(128)));
  const QConvPacked packed = tactic.pack(spec, weights);
  const AlignedBytes scratch = allocate_aligned(tactic.scratch_bytes(spec, 1));
  for ([[maybe_unused]] auto _ : state)
    tactic.run(spec, packed.data.get(), x.data(), r.data(), y.data(), scratch.get(), 1);
  state.counters["MAC/s"] = benchmark::Counter(static_cast<double>(macs_per_pixel * s.oh * s.ow),
                                               benchmark::Counter::kIsIterationInvariantRate);
}

void register_all() {
  for (const Layer& layer : kLayers) {
    for (const QConvTactic& tactic : qconv_tactics()) {
      if (!isa_available(tactic.isa) || tactic.isa == Isa::kBaseline) continue;
      for (const bool residual : {false, true}) {
        const std::string name = std::string(layer.name) + "/" + tactic.name + (residual ? "/residual" : "");
        benchmark::RegisterBenchmark(name.c_str(), bench, layer, tactic, residual);
      }
    }
  }
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  slipway::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
