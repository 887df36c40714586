// From the float file to the quantised one: prepare, calibrate, train, write out, and measure original, post-training
// quantisation at the same bits and the trained model on the test split, all executed by the engine.
#include "train/job.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "data/feed.h"
#include "engine/executor.h"
#include "metrics/classification.h"
#include "model/infer.h"
#include "model/onnx/identity.h"
#include "model/onnx/onnx.h"
#include "model/rows.h"
#include "quantize/auto_quantize.h"
#include "quantize/predict.h"
#include "train/simulate.h"
#include "train/tensors.h"
#include "train/trainer.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr int64_t kDefaultCrop = 4, kCropOfSide = 8;

void require_trainable(const Graph& model, const Dataset& data, const QatOptions& o) {
  for (const FeedPort& port : input_ports(model))
    if (is_float(port.dtype) && port.dtype != DType::kFloat32)
      fail(ErrorCode::kUnsupported, "Training takes float32 inputs, and integers; '{}' is {}", port.name,
           to_string(port.dtype));
  require_fitting(data, model, true);
  if (data.size(Split::kTrain) == 0)
    fail(ErrorCode::kInvalidArgument, "There is nothing to train on; add a `train` split to the data file: {}",
         data.path());
  if (o.loss == QatLoss::kLabels && !data.has_labels(Split::kTrain))
    fail(ErrorCode::kInvalidArgument,
         "The training samples have no labels; use --loss distillation, or add labels to the data file: {}",
         data.path());
}

/// The number of samples that an exporter fixed as the first dimension of every input; 0: none.
int64_t fixed_batch(const Graph& graph) {
  int64_t fixed = 0;
  for (const ValueId input : graph.inputs()) {
    const Shape& shape = graph.value(input).shape;
    if (shape.rank() == 0 || !shape[0].is_known() || (fixed > 0 && shape[0].value() != fixed)) return 0;
    fixed = shape[0].value();
  }
  return fixed;
}

/// The model with any number of samples at once: the fixed first dimension becomes a symbol, and Reshape copies it.
/// Whether that is what the model means shows when two samples go through.
Graph with_free_batch(Graph graph) {
  const int64_t fixed = fixed_batch(graph);
  if (fixed == 0) return graph;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    for (const ValueId output : node.outputs)
      if (output != kNoValue) graph.set_type(output, graph.value(output).dtype, Shape());
    if (!node.is("Reshape") || node.integer("allowzero", 0) != 0 || graph.constant(node.input(1)) == nullptr) continue;
    std::vector<int64_t> dims = to_ints(*graph.constant(node.inputs[1]));
    if (dims.empty() || dims[0] != fixed) continue;
    dims[0] = 0;
    const std::string name = graph.fresh_name(graph.value(node.inputs[1]).name + "_any_batch");
    graph.set_input(id, 1, graph.add_constant(name, Tensor::of<int64_t>({static_cast<int64_t>(dims.size())}, dims)));
  }
  for (const ValueId input : graph.inputs()) {
    Shape shape = graph.value(input).shape;
    shape[0] = Dim(std::string("batch"));
    graph.set_type(input, graph.value(input).dtype, shape);
  }
  infer_shapes(graph);
  return graph;
}

/// The other way: shapes as the original states them, for what is served in its place.
void restore_batch(Graph& graph, const Graph& original) {
  if (const int64_t fixed = fixed_batch(original); fixed > 0) bind_batch(graph, fixed);
}

Augment augment_of(const Feed& feed, const std::vector<Tensor>& sample, const QatOptions& o) {
  const Dataset& data = feed.data();
  Augment augment = data.augment().value_or(Augment{});
  std::optional<int64_t> side;  // the shortest of the pictures'
  for (size_t port = 0; port < sample.size(); ++port) {
    const std::optional<size_t> source = feed.source_of(port);
    if (!source || !data.is_image(*source)) continue;
    const Dims& dims = sample[port].dims();
    const size_t height = data.preprocess(*source).layout == "nchw" ? 2 : 1;
    side = std::min({side.value_or(INT64_MAX), dims.at(height), dims.at(height + 1)});
  }
  if (!data.augment() && side) augment.crop = std::min(kDefaultCrop, *side / kCropOfSide);
  if (o.crop >= 0) augment.crop = o.crop;
  if (o.flip >= 0) augment.flip = o.flip != 0;
  return augment;
}

/// Top-1 on the test split; where it has no labels, agreement with the original.
double accuracy_of(const Predictions& predictions, const Predictions& original, const Dataset& data) {
  return data.has_labels() ? top1_accuracy(predictions) : agreement(predictions.classes, original.classes);
}

/// What a checkpoint belongs to: everything that the weights depend on.
std::string checkpoint_key(const ModelIdentity& model, const Dataset& data, const QatOptions& o) {
  json options = to_json(o);
  for (const char* key :
       {"checkpoint", "checkpoint_seconds", "restart", "quiet", "compare_samples", "patience", "time_budget_minutes"})
    options.erase(key);
  return sha256_hex(model.sha256 + data.digest() + data.train_digest() + options.dump());
}

QatResult run(const QatFiles& files, QatOptions o, const std::function<void(const QatEpoch&)>& on_epoch) {
  const int64_t start_ns = now_ns();
  if (o.threads <= 0) o.threads = cpu_count();
  o.calibrate.threads = o.threads;
  if (o.checkpoint.empty()) o.checkpoint = files.output + ".checkpoint";
  at::set_num_threads(o.threads);
  set_thread_count(o.threads);

  ModelIdentity identity;
  const Graph model = load_onnx(files.model, identity);
  const Dataset data = Dataset::open(files.data);
  for (const std::string& warning : data.train_warnings()) fmt::print(stderr, "warning: {}\n", warning);
  require_trainable(model, data, o);
  const TrainingGraph prepared = prepare_for_training(with_free_batch(model), o.quantize);
  if (const RowIndependence rows = prove_row_independence(prepared.graph); !rows.proven)
    fail(ErrorCode::kUnsupported,
         "Training stacks samples, and the model's rows are not proven independent; quantise it without training: {}",
         rows.reason);
  const Feed feed(data, prepared.graph);
  Graph carrier = prepared.graph;  // a contradiction is refused before any work
  carry_preprocess(data, carrier);
  if (is_folder(o.checkpoint))
    fail(ErrorCode::kInvalidArgument, "The checkpoint's name is that of a folder; give another with --checkpoint: {}",
         o.checkpoint);
  require_writable(o.checkpoint);

  const Calibration calibration = calibrate(prepared.graph, samples_of(feed, Split::kCalibration, o.threads),
                                            tensors_to_calibrate(prepared.graph, o.quantize), o.calibrate);
  const Quantizers start = choose_quantizers(prepared.graph, calibration, o.quantize);
  QatModel qat(prepared, start, o.quantize);
  Executor teacher(prepared.graph, {.batch = o.batch, .program = {.threads = o.threads}});
  QatResult result{.output = files.output};
  {
    const at::NoGradGuard no_gradient;
    const std::vector<Tensor> sample = feed.request(Split::kTrain, 0);
    std::vector<at::Tensor> probe;
    for (const Tensor& tensor : sample) probe.push_back(at::cat({to_torch(tensor), to_torch(tensor)}));
    const at::Tensor scores = qat.forward(probe);
    if (scores.dim() < 2 || scores.size(0) != 2)
      fail(ErrorCode::kUnsupported,
           "The model does not give scores for each of several samples; export it with a free batch dimension: two "
           "samples give {}",
           to_string(scores.sizes().vec()));
    const TrainingSet set(feed, scores.numel() / 2,
                          {.samples = o.samples,
                           .held_out = o.held_out,
                           .max_held_out = o.max_held_out,
                           .augment = augment_of(feed, sample, o),
                           .seed = o.seed,
                           .threads = o.threads});
    const at::AutoGradMode gradient(true);
    train(qat, teacher, set, o,
          {.checkpoint = o.checkpoint,
           .key = checkpoint_key(identity, data, o),
           .spent_seconds = static_cast<double>(now_ns() - start_ns) * 1e-9},
          on_epoch, result);
  }

  QuantizedModel trained = insert_quantizers(qat.trained_graph(), qat.quantizers(), o.quantize);
  carry_preprocess(data, trained.graph);
  const Graph ptq = insert_quantizers(prepared.graph, start, o.quantize).graph;
  result.nodes = static_cast<int64_t>(trained.report.nodes.size());
  result.quantized_nodes = std::count_if(trained.report.nodes.begin(), trained.report.nodes.end(),
                                         [](const NodeDecision& n) { return n.quantized; });
  result.test_samples = data.size(Split::kTest);
  if (result.test_samples > 0) {
    const PredictOptions how{.threads = o.threads, .quiet = o.quiet};
    const Predictions original = predict(prepared.graph, data, how), executed = predict(trained.graph, data, how);
    result.float_accuracy = accuracy_of(original, original, data);
    result.ptq_accuracy = accuracy_of(predict(ptq, data, how), original, data);
    result.accuracy = accuracy_of(executed, original, data);
    result.agreement = compare_with_execution(qat, trained.graph, feed, executed.classes, o);
  }
  result.ptq_bytes = serialize_onnx(ptq).size();

  trained.graph.metadata["slipway.quantization"] = json{
      {"method", "quantisation-aware training"},
      {"profile", to_string(o.quantize.profile)},
      {"activations", to_string(activation_grid(o.quantize).dtype)},
      {"weights", fmt::format("{} per channel, symmetric", to_string(weight_grid(o.quantize).dtype))},
      {"data_digest", data.train_digest()},
      {"version", SLIPWAY_VERSION}}.dump();
  trained.graph.metadata["slipway.training"] = json{{"options", to_json(o)}, {"result", to_json(result)}}.dump();
  restore_batch(trained.graph, model);
  save_onnx(trained.graph, files.output);
  std::remove(o.checkpoint.c_str());
  result.float_bytes = identity.bytes;
  result.bytes = file_bytes(files.output);
  return result;
}

}  // namespace

QatResult run_job(const QatFiles& files, const QatOptions& options,
                  const std::function<void(const QatEpoch&)>& on_epoch) {
  try {
    return run(files, options, on_epoch);
  } catch (const c10::Error& error) {
    fail(ErrorCode::kInternal, "libtorch failed: {}", error.what_without_backtrace());
  }
}

}  // namespace slipway
