// Chooses the instruction set, cuts the rows into threads and finds each row's part of the mask.
#include "engine/kernels/masked_softmax.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/parallel.h"
#include "engine/kernels/masked_softmax_rows.h"

namespace slipway {
namespace {

constexpr int64_t kGrain = 1024;  // elements worth a thread

MaskedSoftmaxRun best_masked_softmax() {
  static const MaskedSoftmaxRun best = cpu_features().avx512 ? kMaskedSoftmaxAvx512
                                       : cpu_features().avx2 ? kMaskedSoftmaxAvx2
                                                             : kMaskedSoftmaxBaseline;
  return best;
}

// Where the mask's part for that row begins, in elements.
int64_t mask_offset(const Dims& dims, const Dims& mask, int64_t row) {
  int64_t offset = 0, stride = mask.empty() ? 0 : mask.back();
  for (size_t i = dims.size() - 1; i-- > 0; row /= dims[i]) {
    const size_t right = dims.size() - i;  // the axis counted from the right end, 1 for the last
    if (right > mask.size()) break;
    const int64_t size = mask[mask.size() - right];
    if (size != 1) offset += row % dims[i] * stride;
    stride *= size;
  }
  return offset;
}

}  // namespace

void MaskedSoftmax::run(const float* x, const void* mask, float* y, int threads) const noexcept {
  const int64_t count = dims.back(), all = element_count(dims);
  if (all == 0) return;
  const MaskedSoftmaxRun run_row = best_masked_softmax();
  parallel_for(
      all / count, threads,
      [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t at = adds || selects ? mask_offset(dims, mask_dims, r) : 0;
          const MaskedSoftmaxRow row = {.x = x + r * count,
                                        .added = adds ? static_cast<const float*>(mask) + at : nullptr,
                                        .kept = selects ? static_cast<const uint8_t*>(mask) + at : nullptr,
                                        .y = y + r * count,
                                        .count = count,
                                        .scale = scale,
                                        .fill = fill,
                                        .mask_step = !mask_dims.empty() && mask_dims.back() != 1,
                                        .keeps = keeps,
                                        .guard = guard};
          run_row(&row);
        }
      },
      std::max<int64_t>(1, kGrain / count));
}

}  // namespace slipway
