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

// The mask's stride along the axis that is `right` axes from the right end (1: the last), 0 where it repeats.
int64_t mask_stride(const Dims& mask, size_t right) {
  if (right > mask.size() || mask[mask.size() - right] == 1) return 0;
  int64_t stride = 1;
  for (size_t i = 1; i < right; ++i) stride *= mask[mask.size() - i];
  return stride;
}

}  // namespace

void MaskedSoftmax::run_rows(const float* x, const void* mask, float* y, int64_t begin, int64_t end) const noexcept {
  const MaskedSoftmaxRun run_block = best_masked_softmax();
  const int64_t count = dims.back(), queries = dims.size() > 1 ? dims[dims.size() - 2] : 1;
  while (begin < end) {  // blocks of rows that differ in the last axis but one alone
    const int64_t rows = std::min(end - begin, queries - begin % queries);
    int64_t offset = 0, rest = begin;
    for (size_t i = dims.size() - 1; i-- > 0; rest /= dims[i])
      offset += rest % dims[i] * mask_stride(mask_dims, dims.size() - i);
    const MaskedSoftmaxBlock block = {.x = x + begin * count,
                                      .added = adds ? static_cast<const float*>(mask) + offset : nullptr,
                                      .kept = selects ? static_cast<const uint8_t*>(mask) + offset : nullptr,
                                      .y = y + begin * count,
                                      .rows = rows,
                                      .count = count,
                                      .mask_pitch = mask_stride(mask_dims, 2),
                                      .scale = scale,
                                      .fill = fill,
                                      .mask_step = static_cast<int32_t>(mask_stride(mask_dims, 1)),
                                      .keeps = keeps,
                                      .guard = guard};
    run_block(&block);
    begin += rows;
  }
}

void MaskedSoftmax::run(const float* x, const void* mask, float* y, int threads) const noexcept {
  const int64_t count = dims.back(), all = element_count(dims);
  if (all == 0) return;
  parallel_for(
      all / count, threads, [&](int64_t begin, int64_t end) { run_rows(x, mask, y, begin, end); },
      std::max<int64_t>(1, kGrain / count));
}

}  // namespace slipway
