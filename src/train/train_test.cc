#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "model/evaluate.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "train/checkpoint.h"
#include "train/job.h"
#include "train/simulate.h"
#include "train/tensors.h"
#include "train/train_testing.h"
#include "train/trainer.h"

namespace slipway {
namespace {

QuantizeOptions bits(int weight_bits, QuantizeProfile profile = QuantizeProfile::kPortable) {
  QuantizeOptions options;
  options.weight_bits = weight_bits;
  options.profile = profile;
  return options;
}

/// A model on its way to being trained, with its data.
struct Course {
  explicit Course(const QuantizeOptions& options, const std::string& more = "", bool labels = true, float white = 1)
      : net(trainable_net("N", false, white)),
        data(Dataset::open(write_pictures(net, folder, 400, more, labels, white))),
        prepared(prepare_for_training(net, options)),
        calibration(calibrate(prepared.graph, samples_of(Feed(data, prepared.graph), Split::kCalibration),
                              tensors_to_calibrate(prepared.graph, options))),
        start(choose_quantizers(prepared.graph, calibration, options)),
        model(prepared, start, options),
        teacher(prepared.graph, {.batch = 16}) {}

  QatResult train_it(QatOptions o, const TrainerContext& context = {},
                     const std::function<void(const QatEpoch&)>& on_epoch = {}) {
    o.quiet = true;
    const TrainingSet set(Feed(data, prepared.graph), 6,
                          {.held_out = o.held_out, .augment = {2, true}, .seed = o.seed});
    QatResult result;
    train(model, teacher, set, o, context, on_epoch, result);
    return result;
  }
  std::map<std::string, Tensor> weights() const {
    std::map<std::string, Tensor> copy;
    for (const auto& [name, tensor] : model.state()) copy[name] = from_torch(tensor);
    return copy;
  }

  TestFolder folder;
  Graph net;
  Dataset data;
  TrainingGraph prepared;
  Calibration calibration;
  Quantizers start;
  QatModel model;
  Executor teacher;
};

bool same(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  return a.size() == b.size() &&
         std::all_of(a.begin(), a.end(), [&](const auto& entry) { return entry.second.identical(b.at(entry.first)); });
}

QatOptions few_epochs(int weight_bits) {
  QatOptions o;
  o.quantize = bits(weight_bits);
  o.epochs = 3;
  o.batch = 32;
  o.held_out = 0.25;
  o.threads = 1;
  return o;
}

TEST(QatModel, BatchNormsAreFoundBesideTheirConvolutions) {
  const Course course(bits(8));
  EXPECT_EQ(course.prepared.batch_norms.size(), 3u);
  for (const NodeId id : course.prepared.graph.topological_order())
    EXPECT_NE(course.prepared.graph.node(id).op_type, "BatchNormalization");
}

TEST(QatModel, StartsAsTheOriginalAndAsPostTrainingQuantisation) {
  for (const int weight_bits : {8, 4}) {
    Course course(bits(weight_bits));
    const Tensor input = course.data.batch(Split::kTest, 0, 5);
    const at::NoGradGuard no_gradient;
    const at::Tensor plain = course.model.forward_float({to_torch(input)});
    const at::Tensor expected = to_torch(evaluate(course.net, std::span(&input, 1))[0]);
    EXPECT_LT((plain - expected).abs().max().item<float>(), 1e-4f);

    const Graph ptq = insert_quantizers(course.prepared.graph, course.start, bits(weight_bits)).graph;
    const at::Tensor quantised = course.model.forward({to_torch(input)});
    const at::Tensor executed = to_torch(evaluate(ptq, std::span(&input, 1))[0]);
    // The same codes but where a float sum rounds to the other side of a tie.
    EXPECT_LT((quantised - executed).abs().mean().item<float>(), 1e-3f) << weight_bits;
    EXPECT_GT((quantised - plain).abs().mean().item<float>(), 1e-3f) << weight_bits;
  }
}

TEST(QatModel, WritesOutWhatItTrained) {
  Course course(bits(4));
  course.train_it(few_epochs(4));
  const Graph exported = insert_quantizers(course.model.trained_graph(), course.model.quantizers(), bits(4)).graph;
  const Tensor input = course.data.batch(Split::kTest, 0, 5);
  const at::NoGradGuard no_gradient;
  const at::Tensor trained = course.model.forward({to_torch(input)});
  const at::Tensor executed = to_torch(evaluate(exported, std::span(&input, 1))[0]);
  EXPECT_LT((trained - executed).abs().mean().item<float>(), 1e-3f);
  int64_t packed = 0;
  for (ValueId id = 0; id < exported.value_limit(); ++id) {
    const Value& value = exported.value(id);
    packed += value.alive && value.is_constant() && value.dtype == DType::kInt4 && value.shape.rank() > 1;
  }
  EXPECT_EQ(packed, 5);
}

TEST(QatModel, ScalesStayPositive) {
  Course course(bits(4));
  {
    const at::NoGradGuard no_gradient;
    for (at::Tensor& scale : course.model.scales()) scale.fill_(-1);
  }
  course.model.clamp_scales();
  for (const at::Tensor& scale : course.model.scales()) EXPECT_GT(scale.min().item<float>(), 0);
}

// The engine's integers are those of the simulation, bit for bit.
TEST(Simulation, EqualsExecution) {
  for (const QuantizeOptions& options :
       {bits(8), bits(4), bits(8, QuantizeProfile::kCpu), bits(4, QuantizeProfile::kCpu)}) {
    Course course(options);
    QatOptions o = few_epochs(options.weight_bits);
    o.quantize = options;
    course.train_it(o);
    const Graph exported = insert_quantizers(course.model.trained_graph(), course.model.quantizers(), options).graph;
    const Tensor input = course.data.batch(Split::kTest, 0, 100);
    const Tensor scores = Executor(exported, {.batch = 4}).run_samples(std::span(&input, 1))[0];
    std::vector<int64_t> classes;
    for (size_t i = 0; i < 100; ++i) classes.push_back(argmax(scores.values<float>().subspan(i * 6, 6)));
    const Feed feed(course.data, exported);
    QatAgreement agreement = compare_with_execution(course.model, exported, feed, classes, o);
    EXPECT_EQ(agreement.equal, 100);
    EXPECT_TRUE(agreement.disagreements.empty());
    EXPECT_GE(agreement.tensors, 6);
    EXPECT_EQ(agreement.compared_samples, 64);
    EXPECT_GT(agreement.elements, 64 * 6 * 16);
    EXPECT_EQ(agreement.unequal_elements, 0) << agreement.first_unequal;
    EXPECT_GT(agreement.output_step, 0);
    // A prediction that differs is listed with its margin.
    classes[3] = (classes[3] + 1) % 6;
    agreement = compare_with_execution(course.model, exported, feed, classes, o);
    ASSERT_EQ(agreement.disagreements.size(), 1u);
    EXPECT_EQ(agreement.disagreements[0].executed, classes[3]);
    EXPECT_EQ(agreement.disagreements[0].sample, course.data.sample_name(Split::kTest, 3));
    EXPECT_EQ(agreement.largest_margin, agreement.disagreements[0].margin);
    EXPECT_GT(agreement.largest_margin, 0);
  }
}

TEST(Trainer, LearnsWhatFourBitsLost) {
  for (const QatOptimizer optimizer : {QatOptimizer::kSgd, QatOptimizer::kAdamW}) {
    Course course(bits(4));
    QatOptions o = few_epochs(4);
    o.optimizer = optimizer;
    o.loss = QatLoss::kDistillation;  // what remains of the others with exact weights is not 0
    o.learning_rate = optimizer == QatOptimizer::kSgd ? 5e-3 : 3e-3;
    o.epochs = 6;
    const QatResult result = course.train_it(o);
    ASSERT_EQ(result.epochs.size(), 7u);
    EXPECT_GT(result.best_epoch, 0);
    EXPECT_LT(result.epochs[static_cast<size_t>(result.best_epoch)].held_out_loss, 0.7 * result.epochs[0].held_out_loss)
        << to_string(optimizer);
    EXPECT_EQ(result.stopped, "all epochs are done");
    EXPECT_EQ(result.train_samples, 225);
    EXPECT_EQ(result.held_out_samples, 75);
    EXPECT_TRUE(result.labels);
  }
}

// The first layer's gradients are 255 times what they are for inputs of 0 to 1, and its weights a 255th.
TEST(Trainer, LearnsWhateverTheInputsRange) {
  for (const QatOptimizer optimizer : {QatOptimizer::kSgd, QatOptimizer::kAdamW}) {
    Course course(bits(4), "", true, 255);
    QatOptions o = few_epochs(4);
    o.optimizer = optimizer;
    o.loss = QatLoss::kDistillation;
    o.learning_rate = optimizer == QatOptimizer::kSgd ? 5e-3 : 3e-3;
    o.epochs = 6;
    const QatResult result = course.train_it(o);
    EXPECT_LT(result.epochs.back().held_out_loss, 0.7 * result.epochs[0].held_out_loss) << to_string(optimizer);
  }
}

TEST(Trainer, NeedsNoLabelsToDistil) {
  Course course(bits(4), "", false);
  QatOptions o = few_epochs(4);
  o.loss = QatLoss::kMixed;
  const QatResult result = course.train_it(o);
  EXPECT_FALSE(result.labels);
  EXPECT_LT(result.epochs.back().held_out_loss, result.epochs.front().held_out_loss);
}

TEST(Trainer, TheSameSeedGivesTheSameBits) {
  Course a(bits(4)), b(bits(4)), c(bits(4));
  QatOptions o = few_epochs(4);
  a.train_it(o);
  b.train_it(o);
  o.seed = 1;
  c.train_it(o);
  EXPECT_TRUE(same(a.weights(), b.weights()));
  EXPECT_FALSE(same(a.weights(), c.weights()));
}

TEST(Trainer, GoesOnFromACheckpointToTheSameBits) {
  for (const QatOptimizer optimizer : {QatOptimizer::kSgd, QatOptimizer::kAdamW}) {
    QatOptions o = few_epochs(4);
    o.optimizer = optimizer;
    Course whole(bits(4)), killed(bits(4)), resumed(bits(4));
    const QatResult expected = whole.train_it(o);
    const TrainerContext context{killed.folder.path("checkpoint"), "key"};
    // Dies while the third epoch's end is told: the checkpoint is that of some step within it.
    o.checkpoint_seconds = 0;
    struct Death {};
    EXPECT_THROW(killed.train_it(o, context,
                                 [](const QatEpoch& epoch) {
                                   if (epoch.epoch == 3) throw Death();
                                 }),
                 Death);
    std::vector<int64_t> heard;
    const QatResult result = resumed.train_it(o, context, [&](const QatEpoch& epoch) { heard.push_back(epoch.epoch); });
    EXPECT_EQ(heard, (std::vector<int64_t>{0, 1, 2, 3}));
    EXPECT_TRUE(same(whole.weights(), resumed.weights())) << to_string(optimizer);
    for (size_t i = 0; i < expected.epochs.size(); ++i) {
      EXPECT_EQ(result.epochs[i].held_out_loss, expected.epochs[i].held_out_loss) << i;
      EXPECT_TRUE(i == 0 || result.epochs[i].loss == expected.epochs[i].loss) << i;
    }
  }
}

TEST(Trainer, StopsAtALossThatIsNoNumberAndKeepsTheBest) {
  Course course(bits(4));
  const auto before = course.weights();
  QatOptions o = few_epochs(4);
  o.learning_rate = 1e30;
  const QatResult result = course.train_it(o);
  EXPECT_NE(result.stopped.find("finite"), std::string::npos) << result.stopped;
  EXPECT_EQ(result.best_epoch, 0);
  EXPECT_NE(result.stopped.find("no epoch was better"), std::string::npos) << result.stopped;
  EXPECT_TRUE(same(before, course.weights()));
}

TEST(Trainer, StopsWhenPatienceOrTimeRunsOut) {
  Course patient(bits(4)), hurried(bits(4));
  QatOptions o = few_epochs(4);
  o.epochs = 500;
  o.patience = 1;
  o.learning_rate = 1e-12;  // nothing gets better
  const QatResult stopped = patient.train_it(o);
  EXPECT_NE(stopped.stopped.find("no better epoch"), std::string::npos) << stopped.stopped;
  EXPECT_LT(stopped.epochs.size(), 20u);
  o.patience = 0;
  o.time_budget_minutes = 0.02;
  const QatResult timed = hurried.train_it(o);
  EXPECT_NE(timed.stopped.find("time budget"), std::string::npos) << timed.stopped;
}

TEST(Checkpoint, DamagedOrForeignOnesAreRefused) {
  const TestFolder folder;
  const std::string path = folder.path("c");
  save_checkpoint({"key", "{}", {{"a", at::tensor({1.0f, 2.0f})}, {"b", at::zeros({2, 0})}}}, path);
  const auto loaded = load_checkpoint(path, "key");
  ASSERT_TRUE(loaded);
  EXPECT_TRUE(at::equal(loaded->tensors.at("a"), at::tensor({1.0f, 2.0f})));
  EXPECT_EQ(loaded->tensors.at("b").sizes(), (std::vector<int64_t>{2, 0}));
  EXPECT_FALSE(load_checkpoint(folder.path("none"), "key"));
  EXPECT_NE(error_of([&] { load_checkpoint(path, "other"); }).find("another training"), std::string::npos);
  const std::string bytes = read_text_file(path);
  for (size_t at = 0; at < bytes.size(); at += 7) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write_file(path, std::string_view(damaged));
    EXPECT_NE(error_of([&] { load_checkpoint(path, "key"); }).find("damaged"), std::string::npos) << at;
    write_file(path, std::string_view(bytes.substr(0, at)));
    EXPECT_NE(error_of([&] { load_checkpoint(path, "key"); }).find("damaged"), std::string::npos) << at;
  }
}

// The whole job, as slipway-torch does it.
class Job : public ::testing::Test {
 protected:
  std::string save(const Graph& graph, const std::string& name = "model.onnx") {
    save_onnx(graph, folder_.path(name));
    return folder_.path(name);
  }
  QatResult run(const std::string& model, const std::string& data, QatOptions o = few_epochs(8)) {
    o.quiet = true;
    o.epochs = std::min<int64_t>(o.epochs, 1);
    return run_job({model, data, folder_.path("out.onnx")}, o, {});
  }
  TestFolder folder_;
};

TEST_F(Job, WritesAQuantisedModelThatSaysHowItWasMade) {
  const Graph net = trainable_net();
  const QatResult result = run(save(net), write_pictures(net, folder_, 200), few_epochs(4));
  EXPECT_EQ(result.test_samples, 50);
  EXPECT_EQ(result.float_accuracy, 1);
  EXPECT_EQ(result.agreement.equal, 50);
  EXPECT_EQ(result.agreement.unequal_elements, 0);
  const Graph loaded = load_onnx(folder_.path("out.onnx"));
  EXPECT_TRUE(loaded.metadata.contains("slipway.training"));
  EXPECT_TRUE(loaded.metadata.contains("slipway.preprocess"));
  EXPECT_EQ(loaded.opset(), 21);
  EXPECT_FALSE(file_exists(folder_.path("out.onnx.checkpoint")));
}

TEST_F(Job, ABatchThatTheExporterFixedDoesNotMatter) {
  Graph net = trainable_net("1");
  const QatResult result = run(save(net), write_pictures(trainable_net(), folder_, 200));
  EXPECT_EQ(result.float_accuracy, 1);
  const Graph loaded = load_onnx(folder_.path("out.onnx"));
  EXPECT_EQ(loaded.value(loaded.inputs()[0]).shape, net.value(net.inputs()[0]).shape);
}

TEST_F(Job, ASoftmaxAtTheEndIsTrainedThrough) {
  const QatResult result = run(save(trainable_net("N", true)), write_pictures(trainable_net(), folder_, 200));
  EXPECT_EQ(result.float_accuracy, 1);
  EXPECT_GT(result.accuracy, 0.8);
  const Graph loaded = load_onnx(folder_.path("out.onnx"));
  EXPECT_EQ(loaded.producer(loaded.outputs()[0])->op_type, "Softmax");
}

/// A picture and a list of ids, of any length, to 3 scores.
Graph two_input_net() {
  Random random(3);
  const auto floats = [&](const std::string& name, const std::string& dims, size_t count, double deviation) {
    std::string text = "  const %" + name + " : f32" + dims + " = {";
    for (size_t i = 0; i < count; ++i) text += (i > 0 ? ", " : "") + fmt::format("{:.9e}", deviation * random.normal());
    return text + "}\n";
  };
  return graph_of("  input %image : f32[N,1,8,8]\n  input %ids : i64[N,T]\n" + floats("w1", "[8,1,3,3]", 72, 0.4) +
                  floats("words", "[10,8]", 80, 1) + floats("w2", "[8,8]", 64, 0.4) + floats("w3", "[3,16]", 48, 0.5) +
                  floats("b3", "[3]", 3, 0.1) +
                  "  const %one : i64[1] = {1}\n"
                  "  %c1 = Conv(%image, %w1) {pads = [1, 1, 1, 1]}\n  %a1 = Relu(%c1)\n"
                  "  %pooled = GlobalAveragePool(%a1)\n  %seen = Flatten(%pooled)\n"
                  "  %vectors = Gather(%words, %ids)\n  %m = MatMul(%vectors, %w2)\n  %a2 = Relu(%m)\n"
                  "  %read = ReduceMean(%a2, %one) {keepdims = 0}\n"
                  "  %both = Concat(%seen, %read) {axis = 1}\n  %scores = Gemm(%both, %w3, %b3) {transB = 1}\n"
                  "  output %scores");
}

/// Samples of it, with 4 ids each; of every other one 5 where `free`, those 4 twice over where `repeat`, which is the
/// same to the model: the data file's path.
std::string write_two_inputs(const Graph& teacher, const TestFolder& folder, bool free, bool repeat = false) {
  Random random(11);
  constexpr int64_t kCount = 120;
  std::vector<uint8_t> pixels(kCount * 64);
  for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(random.below(256));
  write_npy(folder.path("x.npy"), Tensor::of<uint8_t>({kCount, 8, 8}, pixels));
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < kCount; ++i) {
    std::vector<int64_t> ids(static_cast<size_t>(free ? 4 + i % 2 : 4));
    for (int64_t& id : ids) id = static_cast<int64_t>(random.below(10));
    if (repeat && i % 2 == 1) {
      ids.resize(8);
      std::copy_n(ids.begin(), 4, ids.begin() + 4);
    }
    std::vector<float> image(pixels.begin() + i * 64, pixels.begin() + (i + 1) * 64);
    for (float& value : image) value /= 255;
    const std::vector<Tensor> request = {Tensor::of<float>({1, 1, 8, 8}, image),
                                         Tensor::of<int64_t>({1, static_cast<int64_t>(ids.size())}, ids)};
    labels.push_back(argmax(to_floats(evaluate(teacher, request)[0])));
    folder.write(fmt::format("ids/{:03}.npy", i), "");
    write_npy(folder.path(fmt::format("ids/{:03}.npy", i)), Tensor::of<int64_t>({request[1].dims()[1]}, ids));
  }
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({kCount}, labels));
  return folder.write("two.yaml",
                      "format: npy\nlabels: y.npy\ninputs:\n  image: {inputs: x.npy, preprocess: {color: gray}}\n"
                      "  ids: {format: folder, samples: arrays, folder: ids}\n"
                      "calibration: {count: 32}\ntest: {count: 30, seed: 1}\n");
}

TEST_F(Job, SeveralInputsAreTrainedTogether) {
  const Graph net = two_input_net();
  for (const bool free : {false, true}) {
    QatOptions o = few_epochs(4);
    o.loss = QatLoss::kDistillation;
    o.learning_rate = 5e-3;
    const TestFolder folder;
    save_onnx(net, folder.path("m.onnx"));
    o.quiet = true;
    const QatResult result =
        run_job({folder.path("m.onnx"), write_two_inputs(net, folder, free), folder.path("out.onnx")}, o, {});
    EXPECT_EQ(result.float_accuracy, 1);
    EXPECT_GT(result.best_epoch, 0);
    EXPECT_LT(result.epochs.back().held_out_loss, result.epochs.front().held_out_loss);
    EXPECT_EQ(result.agreement.equal, 30);
    EXPECT_EQ(result.agreement.unequal_elements, 0) << result.agreement.first_unequal;
    EXPECT_EQ(result.agreement.compared_samples, 30);
    EXPECT_GE(result.agreement.tensors, 3);
    EXPECT_EQ(load_onnx(folder.path("out.onnx")).inputs().size(), 2u);
  }
}

// A step over samples of several lengths has a batch for each; what belongs to a sample stays together.
TEST_F(Job, SamplesOfOneShapeAreStacked) {
  const Graph net = two_input_net();
  const Dataset data = Dataset::open(write_two_inputs(net, folder_, true));
  const TrainingSet set(Feed(data, net), 3, {.held_out = 0.25});
  const auto batches = set.train_batches(1, 0, 20);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[0].size + batches[1].size, 20);
  for (const TrainingSet::Batch& batch : batches) {
    ASSERT_EQ(batch.inputs.size(), 2u);
    EXPECT_EQ(batch.inputs[0].sizes().vec(), (std::vector<int64_t>{batch.size, 1, 8, 8}));
    EXPECT_EQ(batch.inputs[1].size(0), batch.size);
    std::vector<Tensor> values = {from_torch(batch.inputs[0]), from_torch(batch.inputs[1])};
    const Tensor scores = evaluate(net, values)[0];
    for (int64_t i = 0; i < batch.size; ++i)  // rows of one sample stayed together
      EXPECT_EQ(argmax(to_floats(rows_of(scores, i, 1))), batch.labels[i].item<int64_t>());
  }
}

TEST_F(Job, GradientsOfSeveralShapesAddUp) {
  const Graph net = two_input_net();
  const TrainingGraph prepared = prepare_for_training(net, bits(8));
  at::Tensor moved[2];
  for (const bool repeat : {false, true}) {
    const TestFolder folder;
    const Feed feed(Dataset::open(write_two_inputs(net, folder, false, repeat)), prepared.graph);
    const Calibration calibration =
        calibrate(prepared.graph, samples_of(feed, Split::kCalibration), tensors_to_calibrate(prepared.graph, bits(8)));
    QatModel model(prepared, choose_quantizers(prepared.graph, calibration, bits(8)), bits(8));
    const at::Tensor before = model.state().at("constant w3").detach().clone();
    Executor teacher(prepared.graph, {.batch = 16});
    QatOptions o = few_epochs(8);
    o.quiet = true;
    o.loss = QatLoss::kLabels;
    o.learning_rate = 1e-3;
    o.epochs = 1;
    QatResult result;
    train(model, teacher, TrainingSet(feed, 3, {.held_out = 0.25}), o, {}, {}, result);
    moved[repeat] = model.state().at("constant w3").detach() - before;
  }
  EXPECT_GT(moved[0].norm().item<float>(), 0);
  EXPECT_LT((moved[1] - moved[0]).norm().item<float>(), 0.1f * moved[0].norm().item<float>());
}

TEST_F(Job, RefusesWhatItCannotTrain) {
  const Graph net = trainable_net();
  const std::string model = save(net), data = write_pictures(net, folder_, 200);
  const auto refusal = [&](const std::string& m, const std::string& d, const QatOptions& o = few_epochs(8)) {
    return error_of([&] { run(m, d, o); });
  };
  const auto says = [](const std::string& message, const std::string& part) {
    return message.find(part) != std::string::npos;
  };
  // Labels out of range, data of another shape, no labels though asked for.
  write_npy(folder_.path("z.npy"), Tensor::of<int64_t>({200}, std::vector<int64_t>(200, 6)));
  const auto variant = [&](const std::string& text) { return folder_.write("variant.yaml", text); };
  const std::string head = "format: npy\nimages: x.npy\ncalibration: {count: 32}\ntest: {count: 50}\n";
  EXPECT_TRUE(says(refusal(model, variant(head + "labels: z.npy\npreprocess: {color: gray}\n")), "6 scores"));
  EXPECT_TRUE(says(refusal(model, variant(head + "labels: y.npy\npreprocess: {color: rgb}\n")), "[3,8,8]"));
  QatOptions with_labels = few_epochs(8);
  with_labels.loss = QatLoss::kLabels;
  EXPECT_TRUE(says(refusal(model, variant(head + "preprocess: {color: gray}\n"), with_labels), "no labels"));
  // An operator without a gradient.
  Graph odd = net;
  const ValueId round =
      odd.add_node({.op_type = "Round", .name = "the_round", .inputs = {odd.outputs()[0]}}, "rounded");
  odd.set_output(0, round);
  infer_shapes(odd);
  EXPECT_TRUE(says(refusal(save(odd, "odd.onnx"), data), "the_round"));
  EXPECT_FALSE(file_exists(folder_.path("out.onnx")));
}

}  // namespace
}  // namespace slipway
