// Chooses the instruction set and cuts the rows into threads.
#include "engine/kernels/normalization.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/parallel.h"
#include "engine/kernels/normalization_rows.h"

namespace slipway {
namespace {

constexpr int64_t kGrain = 4096;  // elements worth a thread

NormalizationRun best_normalization() {
  static const NormalizationRun best = cpu_features().avx512 ? kNormalizationAvx512
                                       : cpu_features().avx2 ? kNormalizationAvx2
                                                             : kNormalizationBaseline;
  return best;
}

}  // namespace

void RowNormalization::run(const float* x, const float* scale, const float* bias, float* y,
                           int threads) const noexcept {
  if (rows == 0 || count == 0) return;
  const NormalizationRun normalize = best_normalization();
  const auto block_of = [&](int64_t begin, int64_t end) {
    const int64_t channel = channels > 0 ? begin % channels : 0;
    return NormalizationBlock{.x = x + begin * count,
                              .scale = scale + channel,
                              .bias = bias == nullptr ? nullptr : bias + channel,
                              .y = y + begin * count,
                              .rows = end - begin,
                              .count = count,
                              .epsilon = epsilon,
                              .scale_step = channels == 0 && whole_scale,
                              .bias_step = channels == 0 && whole_bias,
                              .centre = centre};
  };
  parallel_for(
      rows, threads,
      [&](int64_t begin, int64_t end) {
        const int64_t step = channels > 0 ? 1 : end - begin;
        for (int64_t r = begin; r < end; r += step) {
          const NormalizationBlock block = block_of(r, r + step);
          normalize(&block);
        }
      },
      std::max<int64_t>(1, kGrain / count));
}

}  // namespace slipway
