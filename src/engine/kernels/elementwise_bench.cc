// Every elementwise function of each instruction set on a feature map of 64×56×56, and softmax, one thread. Counter:
// elements per second.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/random.h"
#include "engine/kernels/elementwise.h"

namespace slipway {
namespace {

constexpr int64_t kCount = 64 * 56 * 56;

std::vector<float> normals(int64_t count) {
  Random random(1);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = static_cast<float>(random.normal());
  return x;
}

template <typename Run>
void add(const std::string& name, int64_t count, const Run& run) {
  benchmark::RegisterBenchmark(name.c_str(), [count, run](benchmark::State& state) {
    const std::vector<float> x = normals(count);
    std::vector<float> y(x.size());
    for ([[maybe_unused]] auto _ : state) run(x.data(), y.data());
    state.counters["elements/s"] =
        benchmark::Counter(static_cast<double>(count), benchmark::Counter::kIsIterationInvariantRate);
  });
}

void add_set(const std::string& isa, const ElementwiseRows& set) {
  for (int64_t i = 0; i < set.unary_count; ++i)
    add(std::string(set.unary[i].name) + "/" + isa, kCount,
        [row = set.unary[i]](const float* x, float* y) { row.run(x, y, kCount, row.defaults); });
  for (int64_t i = 0; i < set.binary_count; ++i)
    add(std::string(set.binary[i].name) + "/" + isa, kCount, [row = set.binary[i]](const float* x, float* y) {
      const BinaryBlock block = {x, x, y, 1, kCount, 0, 0, 0, 1, 1};
      row.run(&block);
    });
  const std::pair<const char*, SoftmaxRun> forms[] = {{"Softmax", set.softmax}, {"LogSoftmax", set.log_softmax}};
  for (const auto& [name, run] : forms)
    for (const int64_t count : {10, 128, 1000})
      add(fmt::format("{}_{}/{}", name, count, isa), 128 * count, [run, count](const float* x, float* y) {
        for (int64_t r = 0; r < 128; ++r) run(x + r * count, y + r * count, count, 1, 1);
      });
}

[[maybe_unused]] const bool kAdded = [] {
  add_set("baseline", kElementwiseBaseline);
  if (cpu_features().avx2) add_set("avx2", kElementwiseAvx2);
  if (cpu_features().avx512) add_set("avx512", kElementwiseAvx512);
  return true;
}();

}  // namespace
}  // namespace slipway
