// Fake quantisation as two autograd functions over one pair of loops. A tensor is cut into runs that share a scale:
// pieces of fixed length of the whole, or one run for each channel; each run's scale gradient is summed on its own and
// the runs' in order, so that the result does not depend on the number of threads.
#include "train/fake_quantize.h"

#include <algorithm>
#include <cmath>

#include "base/cpu.h"
#include "base/parallel.h"
#include "train/fake_quantize_rows.h"

namespace slipway {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kPiece = 32768;          // elements of a run where the scale is one
constexpr int64_t kGrainElements = 16384;  // below, another thread costs more than it brings

const FakeQuantizeRows& rows() {
  static const FakeQuantizeRows& chosen = cpu_features().avx2 ? kFakeQuantizeRowsAvx2 : kFakeQuantizeRows;
  return chosen;
}

/// A dense tensor as runs of `length` (the last may be shorter), run r using scale r % scales or the only one.
struct Runs {
  int64_t elements, length, scales;
  int64_t count() const { return length == 0 ? 0 : (elements + length - 1) / length; }
  int64_t size(int64_t run) const { return std::min(length, elements - run * length); }
  int64_t scale(int64_t run) const { return scales == 1 ? 0 : run % scales; }
};

template <typename Body>
void for_each_run(const Runs& runs, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, runs.length));
  parallel_for(
      runs.count(), at::get_num_threads(),
      [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) body(r);
      },
      grain);
}

at::Tensor forward(const at::Tensor& x, const at::Tensor& scale, const Runs& runs, FakeGrid grid) {
  at::Tensor y = at::empty_like(x);
  const float *from = x.data_ptr<float>(), *scales = scale.data_ptr<float>();
  float* to = y.data_ptr<float>();
  for_each_run(runs, [&](int64_t r) {
    const FakeQuantizeStep step{scales[runs.scale(r)], grid.lo, grid.hi};
    rows().forward(from + r * runs.length, to + r * runs.length, runs.size(r), &step);
  });
  return y;
}

struct Gradients {
  at::Tensor x, scale;
};

Gradients backward(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& g, const Runs& runs, FakeGrid grid,
                   double scale_gradient) {
  Gradients result{at::empty_like(x), at::zeros_like(scale)};
  const float *from = x.data_ptr<float>(), *scales = scale.data_ptr<float>(), *upper = g.data_ptr<float>();
  float *to = result.x.data_ptr<float>(), *sums = result.scale.data_ptr<float>();
  std::vector<float> parts(static_cast<size_t>(runs.count()));
  for_each_run(runs, [&](int64_t r) {
    const FakeQuantizeStep step{scales[runs.scale(r)], grid.lo, grid.hi};
    parts[static_cast<size_t>(r)] =
        rows().backward(from + r * runs.length, upper + r * runs.length, to + r * runs.length, runs.size(r), &step);
  });
  std::vector<double> totals(static_cast<size_t>(runs.scales));
  for (int64_t r = 0; r < runs.count(); ++r)
    totals[static_cast<size_t>(runs.scale(r))] += static_cast<double>(parts[static_cast<size_t>(r)]);
  for (size_t i = 0; i < totals.size(); ++i) sums[i] = static_cast<float>(totals[i] * scale_gradient);
  return result;
}

/// x with `axis` moved to the front or where its channels are runs already: [.., channels, run].
struct FakeQuantize : torch::autograd::Function<FakeQuantize> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& scale, int64_t length,
                            double lo, double hi, double scale_gradient) {
    const Runs runs{x.numel(), length, scale.numel()};
    context->save_for_backward({x, scale});
    context->saved_data["length"] = length;
    context->saved_data["lo"] = lo;
    context->saved_data["hi"] = hi;
    context->saved_data["scale_gradient"] = scale_gradient;
    return slipway::forward(x, scale, runs, {static_cast<float>(lo), static_cast<float>(hi)});
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &scale = saved[1];
    const Runs runs{x.numel(), context->saved_data["length"].toInt(), scale.numel()};
    const FakeGrid grid{static_cast<float>(context->saved_data["lo"].toDouble()),
                        static_cast<float>(context->saved_data["hi"].toDouble())};
    // Elements pair up by place in memory, so the gradient takes x's layout.
    const at::Tensor g = gradients[0].strides() == x.strides() && gradients[0].is_non_overlapping_and_dense()
                             ? gradients[0]
                             : at::empty_like(x).copy_(gradients[0]);
    Gradients result = slipway::backward(x, scale, g, runs, grid, context->saved_data["scale_gradient"].toDouble());
    return {result.x, result.scale, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, FakeGrid grid, double scale_gradient) {
  const at::Tensor dense = x.is_non_overlapping_and_dense() ? x : x.contiguous();
  return FakeQuantize::apply(dense, scale, kPiece, grid.lo, grid.hi, scale_gradient);
}

at::Tensor fake_quantize_channels(const at::Tensor& x, const at::Tensor& scale, int64_t axis, FakeGrid grid,
                                  double scale_gradient) {
  const bool transposes = axis == x.dim() - 1 && x.dim() == 2;  // runs of one element would be slow
  const at::Tensor dense = (transposes ? x.t() : x).contiguous();
  int64_t length = 1;
  for (int64_t d = (transposes ? 0 : axis) + 1; d < dense.dim(); ++d) length *= dense.size(d);
  const at::Tensor y = FakeQuantize::apply(dense, scale, length, grid.lo, grid.hi, scale_gradient);
  return transposes ? y.t() : y;
}

}  // namespace slipway
