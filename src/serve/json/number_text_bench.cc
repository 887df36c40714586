// Numbers of a JSON tensor, 3×224×224 of them, to text and back: ours, fmt and the standard library. Counter: numbers
// per second.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <charconv>
#include <string>
#include <vector>

#include "base/random.h"
#include "serve/json/float_text.h"
#include "serve/json/json_tensor.h"

namespace slipway {
namespace {

constexpr size_t kCount = 3 * 224 * 224;

std::vector<float> numbers() {
  Random random(1);
  std::vector<float> values(kCount);
  for (float& v : values) v = static_cast<float>(random.normal());
  return values;
}

std::string as_json(const std::vector<float>& values) {
  std::string text = "[";
  for (const float v : values) fmt::format_to(std::back_inserter(text), "{}{}", text.size() > 1 ? "," : "", v);
  return text + "]";
}

void counted(benchmark::State& state) {
  state.counters["numbers/s"] =
      benchmark::Counter(static_cast<double>(kCount), benchmark::Counter::kIsIterationInvariantRate);
}

template <typename Write>
void write_all(benchmark::State& state, const Write& write) {
  const std::vector<float> values = numbers();
  std::string text(kCount * kFloatTextSize, ' ');
  for ([[maybe_unused]] auto _ : state) {
    char* out = text.data();
    for (const float v : values) {
      out = write(out, v);
      *out++ = ',';
    }
    benchmark::DoNotOptimize(text.data());
  }
  counted(state);
}

void write_ours(benchmark::State& state) { write_all(state, write_float); }
void write_fmt(benchmark::State& state) {
  write_all(state, [](char* out, float v) { return fmt::format_to(out, "{}", v); });
}
void write_std(benchmark::State& state) {
  write_all(state, [](char* out, float v) { return std::to_chars(out, out + kFloatTextSize, v).ptr; });
}

void read_ours(benchmark::State& state) {
  const std::string padded = as_json(numbers()) + std::string(16, '\0');
  const std::string_view text = std::string_view(padded).substr(0, padded.size() - 16);
  const int64_t dims[] = {static_cast<int64_t>(kCount)};
  for ([[maybe_unused]] auto _ : state) {
    const TensorBytes bytes = parse_json_tensor(text, DType::kFloat32, dims, "x");
    benchmark::DoNotOptimize(bytes.data.get());
  }
  counted(state);
}
void read_std(benchmark::State& state) {
  const std::string text = as_json(numbers());
  std::vector<float> values(kCount);
  for ([[maybe_unused]] auto _ : state) {
    const char *at = text.data() + 1, *end = text.data() + text.size();
    for (float& v : values) at = std::from_chars(at, end, v).ptr + 1;
    benchmark::DoNotOptimize(values.data());
  }
  counted(state);
}

BENCHMARK(write_ours);
BENCHMARK(write_fmt);
BENCHMARK(write_std);
BENCHMARK(read_ours);
BENCHMARK(read_std);

}  // namespace
}  // namespace slipway
