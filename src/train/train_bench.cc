// A training step with fake quantisers against the same step of the float model: forward, cross entropy, backward, SGD.
// The model is the demo's, or the file that $SLIPWAY_BENCH_MODEL names (one input with a free batch).
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "model/onnx/onnx.h"
#include "quantize/quantize.h"
#include "train/qat_model.h"
#include "train/tensors.h"

namespace slipway {
namespace {

constexpr int64_t kBatch = 64;

std::string model_path() {
  const char* given = std::getenv("SLIPWAY_BENCH_MODEL");
  return given != nullptr ? given : SLIPWAY_SOURCE_DIR "/models/fashion_mnist_resnet.onnx";
}

/// A model ready to be trained on random pictures.
struct Course {
  explicit Course(int weight_bits) {
    options.weight_bits = weight_bits;
    prepared = prepare_for_training(load_onnx(model_path()), options);
    Dims dims;
    for (const Dim& d : prepared.graph.value(prepared.graph.inputs()[0]).shape.dims())
      dims.push_back(d.is_known() ? d.value() : kBatch);
    inputs = at::randn(dims);
    const auto read = [&](int64_t first, int64_t count) {
      return std::vector<Tensor>{from_torch(inputs.slice(0, first, first + count))};
    };
    const Calibration calibration =
        calibrate(prepared.graph, {.count = kBatch, .read = read}, tensors_to_calibrate(prepared.graph, options));
    model = std::make_unique<QatModel>(prepared, choose_quantizers(prepared.graph, calibration, options), options);
  }

  QuantizeOptions options;
  TrainingGraph prepared;
  at::Tensor inputs;
  std::unique_ptr<QatModel> model;
};

void step(benchmark::State& state, bool quantised) {
  Course course(static_cast<int>(quantised ? state.range(0) : 8));
  std::vector<at::Tensor> parameters = course.model->weights();
  for (const auto& more : {course.model->offsets(), quantised ? course.model->scales() : std::vector<at::Tensor>{}})
    parameters.insert(parameters.end(), more.begin(), more.end());
  torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(1e-4).momentum(0.9));
  const at::Tensor labels = at::zeros({kBatch}, at::kLong);
  for (auto _ : state) {
    optimizer.zero_grad();
    const at::Tensor out =
        quantised ? course.model->forward({course.inputs}) : course.model->forward_float({course.inputs});
    at::cross_entropy_loss(out.reshape({kBatch, -1}), labels).backward();
    optimizer.step();
  }
}

void float_step(benchmark::State& state) { step(state, false); }
void qat_step(benchmark::State& state) { step(state, true); }
BENCHMARK(float_step)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(qat_step)->Arg(8)->Arg(4)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace slipway

BENCHMARK_MAIN();
