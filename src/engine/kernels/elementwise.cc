// Chooses the instruction set, cuts the work into threads, and turns broadcasting into runs over contiguous memory.
#include "engine/kernels/elementwise.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"

namespace slipway {
namespace {

constexpr int64_t kGrain = 4096;  // elements worth a thread
constexpr int64_t kLanes = 64;    // neighbouring distributions of a softmax at a time

const ElementwiseRows& rows() {
  static const ElementwiseRows& best = cpu_features().avx512 ? kElementwiseAvx512
                                       : cpu_features().avx2 ? kElementwiseAvx2
                                                             : kElementwiseBaseline;
  return best;
}

template <typename Row>
const Row* find_row(std::span<const Row> list, std::string_view name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const Row& row) { return row.name == name; });
  return found == list.end() ? nullptr : &*found;
}

}  // namespace

std::span<const UnaryRow> unary_functions() { return {rows().unary, static_cast<size_t>(rows().unary_count)}; }
std::span<const BinaryRow> binary_functions() { return {rows().binary, static_cast<size_t>(rows().binary_count)}; }

Unary find_unary(std::string_view op) {
  const UnaryRow* row = find_row(unary_functions(), op);
  return row == nullptr ? Unary{} : Unary{row, {row->defaults[0], row->defaults[1]}};
}

const BinaryRow* find_binary(std::string_view op) { return find_row(binary_functions(), op); }

Unary fused_activation(std::string_view name, float alpha, float beta) {
  static constexpr std::string_view kNames[] = {"Relu",      "Clip",        "LeakyRelu", "Tanh",
                                                "HardSwish", "HardSigmoid", "SiLU"};
  if (std::find(std::begin(kNames), std::end(kNames), name) == std::end(kNames)) return {};
  return {find_row(unary_functions(), name), {alpha, beta}};
}

void Unary::run(const float* x, float* y, int64_t count, int threads) const noexcept {
  parallel_for(
      count, threads, [&](int64_t begin, int64_t end) { run(x + begin, y + begin, end - begin); }, kGrain);
}

BinaryLoops::BinaryLoops(const BinaryRow& row, const Dims& dims, const Dims& a_strides, const Dims& b_strides)
    : row_(&row) {
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 1) continue;
    const bool joins =
        !dims_.empty() && a_strides_.back() == a_strides[i] * dims[i] && b_strides_.back() == b_strides[i] * dims[i];
    if (!joins) {
      dims_.push_back(1);
      a_strides_.push_back(0);
      b_strides_.push_back(0);
    }
    dims_.back() *= dims[i];
    a_strides_.back() = a_strides[i];
    b_strides_.back() = b_strides[i];
  }
  while (dims_.size() < 2)
    for (Dims* list : {&dims_, &a_strides_, &b_strides_}) list->insert(list->begin(), list == &dims_ ? 1 : 0);
  SLIPWAY_CHECK(a_strides_.back() <= 1 && b_strides_.back() <= 1);
}

// Rows are counted over all axes but the last; those that differ in the last but one alone make a block.
void BinaryLoops::run_rows(const float* a, const float* b, float* y, int64_t begin, int64_t end) const noexcept {
  const size_t last = dims_.size() - 1, middle = last - 1;
  while (begin < end) {
    BinaryBlock block = {.a = a,
                         .b = b,
                         .y = y + begin * dims_[last],
                         .rows = std::min(end - begin, dims_[middle] - begin % dims_[middle]),
                         .count = dims_[last],
                         .a_pitch = a_strides_[middle],
                         .b_pitch = b_strides_[middle],
                         .y_pitch = dims_[last],
                         .a_step = static_cast<int32_t>(a_strides_[last]),
                         .b_step = static_cast<int32_t>(b_strides_[last])};
    int64_t rest = begin;
    for (size_t i = last; i-- > 0; rest /= dims_[i]) {
      block.a += rest % dims_[i] * a_strides_[i];
      block.b += rest % dims_[i] * b_strides_[i];
    }
    row_->run(&block);
    begin += block.rows;
  }
}

void BinaryLoops::run(const float* a, const float* b, float* y, int threads) const noexcept {
  const int64_t count = dims_.back(), all = element_count(dims_);
  if (all == 0) return;
  if (all == count) {  // one row
    parallel_for(
        count, threads,
        [&](int64_t begin, int64_t end) {
          const BinaryBlock block = {a + begin * a_strides_.back(),
                                     b + begin * b_strides_.back(),
                                     y + begin,
                                     1,
                                     end - begin,
                                     0,
                                     0,
                                     0,
                                     static_cast<int32_t>(a_strides_.back()),
                                     static_cast<int32_t>(b_strides_.back())};
          row_->run(&block);
        },
        kGrain);
    return;
  }
  parallel_for(
      all / count, threads, [&](int64_t begin, int64_t end) { run_rows(a, b, y, begin, end); },
      std::max<int64_t>(1, kGrain / count));
}

void softmax(const float* x, float* y, int64_t outer, int64_t count, int64_t inner, bool log, int threads) noexcept {
  const SoftmaxRun run = log ? rows().log_softmax : rows().softmax;
  const int64_t groups = (inner + kLanes - 1) / kLanes;
  if (count == 0) return;
  parallel_for(
      outer * groups, threads,
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t lane = i % groups * kLanes, at = i / groups * count * inner + lane;
          run(x + at, y + at, count, inner, std::min(kLanes, inner - lane));
        }
      },
      std::max<int64_t>(1, kGrain / (count * std::min(kLanes, std::max<int64_t>(inner, 1)))));
}

}  // namespace slipway
