#include "data/feed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "data/npy.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

using ::testing::Test;

const std::string kFashion = "/usr/share/datasets/fashion-mnist/";

/// Four grey pictures of 2×2 with labels 0, 1, 2, 0.
void write_small_set(const TestFolder& folder) {
  std::vector<uint8_t> pixels(16);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i);
  write_npy(folder.path("x.npy"), Tensor::of<uint8_t>({4, 2, 2}, pixels));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({4}, {0, 1, 2, 0}));
}

Dataset open_text(const TestFolder& folder, const std::string& text) {
  return Dataset::open(folder.write("data.yaml", text));
}

std::string refusal(const TestFolder& folder, const std::string& text) {
  return error_of([&] { open_text(folder, text); });
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

TEST(Dataset, ReadsFashionMnist) {
  if (!file_exists(kFashion + "t10k-images-idx3-ubyte.gz")) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  TestFolder folder;
  const Dataset data = open_text(folder,
                                 "format: idx\n"
                                 "calibration: {images: " +
                                     kFashion + "train-images-idx3-ubyte.gz, labels: " + kFashion +
                                     "train-labels-idx1-ubyte.gz, count: 500, seed: 7}\n"
                                     "test: {images: " +
                                     kFashion + "t10k-images-idx3-ubyte.gz, labels: " + kFashion +
                                     "t10k-labels-idx1-ubyte.gz}\n"
                                     "preprocess: {color: gray, scale: 1/255, mean: 0.5, std: 0.5}\n");
  EXPECT_EQ(data.size(Split::kCalibration), 500);
  EXPECT_EQ(data.size(Split::kTest), 10000);
  EXPECT_EQ(data.label(Split::kTest, 0), 9);  // an ankle boot
  EXPECT_EQ(data.sample_name(Split::kTest, 3), "t10k-images-idx3-ubyte.gz[3]");
  std::vector<int> per_class(10);
  for (int64_t i = 0; i < 10000; ++i) ++per_class[static_cast<size_t>(data.label(Split::kTest, i))];
  for (const int count : per_class) EXPECT_EQ(count, 1000);
  const Tensor batch = data.batch(Split::kTest, 0, 64, 2);
  EXPECT_EQ(batch.dims(), (Dims{64, 1, 28, 28}));
  const auto one = data.input(Split::kTest, 63);
  EXPECT_TRUE(
      std::equal(one.values<float>().begin(), one.values<float>().end(), batch.values<float>().begin() + 63 * 784));
  EXPECT_TRUE(data.warnings().empty());
}

TEST(Dataset, ReadsCifar10) {
  const std::string file = assets_folder() + "/data/cifar10/test_batch.bin.gz";
  if (!file_exists(file)) GTEST_SKIP() << "no " << file;
  TestFolder folder;
  const Dataset data =
      open_text(folder, "format: cifar10\nfiles: " + file +
                            "\ncalibration: {count: 256}\npreprocess: {mean: [0.4914, 0.4822, 0.4465], "
                            "std: [0.2023, 0.1994, 0.2010]}\n"
                            "classes: [airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]\n");
  EXPECT_EQ(data.size(Split::kTest), 10000 - 256);
  EXPECT_EQ(data.input(Split::kTest, 0).dims(), (Dims{3, 32, 32}));
  std::set<std::string> seen;
  for (const Split split : {Split::kCalibration, Split::kTest})
    for (int64_t i = 0; i < data.size(split); ++i) EXPECT_TRUE(seen.insert(data.sample_name(split, i)).second);
  EXPECT_EQ(seen.size(), 10000u);
}

TEST(Dataset, DrawsTheSameSamplesForTheSameSeed) {
  TestFolder folder;
  write_small_set(folder);
  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\n";
  const auto names = [&](const std::string& seed) {
    const Dataset data = open_text(folder, head + "calibration: {count: 2, seed: " + seed + "}\n");
    return data.sample_name(Split::kCalibration, 0) + data.sample_name(Split::kCalibration, 1);
  };
  std::set<std::string> drawn;
  for (int seed = 0; seed < 20; ++seed) {
    drawn.insert(names(std::to_string(seed)));
    EXPECT_EQ(names(std::to_string(seed)), names(std::to_string(seed)));
  }
  EXPECT_GT(drawn.size(), 3u);
}

TEST(Dataset, SplitsOverOneSourceAreDisjointAndOverlapIsTold) {
  TestFolder folder;
  write_small_set(folder);
  const Dataset same = open_text(folder,
                                 "format: npy\ncalibration: {inputs: x.npy, labels: y.npy, count: 3}\n"
                                 "test: {inputs: x.npy, labels: y.npy}\n");
  EXPECT_EQ(same.size(Split::kTest), 1);
  EXPECT_TRUE(same.warnings().empty());
  const Dataset unlabelled =
      open_text(folder, "format: npy\ncalibration: {inputs: x.npy, count: 3}\ntest: {inputs: x.npy, labels: y.npy}\n");
  EXPECT_EQ(unlabelled.size(Split::kTest), 4);
  ASSERT_EQ(unlabelled.warnings().size(), 1u);
  EXPECT_SAYS(unlabelled.warnings()[0], "3 of the 3 calibration samples are in the test split too");
  EXPECT_EQ(unlabelled.label(Split::kCalibration, 0), -1);
}

TEST(Dataset, MapsLabels) {
  TestFolder folder;
  write_small_set(folder);
  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\n";
  EXPECT_EQ(open_text(folder, head + "label_offset: 1\n").label(Split::kTest, 2), 3);
  EXPECT_EQ(open_text(folder, head + "label_map: {0: 217, 1: 482, 2: 5}\n").label(Split::kTest, 3), 217);
  EXPECT_SAYS(refusal(folder, head + "label_map: {0: 217, 1: 482}\n"), "A label is not in `label_map`; add it: '2'");
  EXPECT_SAYS(refusal(folder, head + "classes: [a, b]\n"), "A label lies outside the 2 classes");
  EXPECT_SAYS(refusal(folder, head + "label_offset: -1\n"), "-1 of x.npy[0]");
  folder.write("names.txt", "zero\r\none\ntwo\n");
  EXPECT_EQ(open_text(folder, head + "classes: names.txt\n").class_names(),
            (std::vector<std::string>{"zero", "one", "two"}));
  folder.write("y.csv", "label\ntwo\none\nzero\nzero\n");
  const Dataset named = open_text(folder, "format: npy\ninputs: x.npy\nlabels: y.csv\nclasses: names.txt\n");
  EXPECT_EQ(named.label(Split::kTest, 0), 2);
}

TEST(Dataset, RefusesWrongKeys) {
  TestFolder folder;
  write_small_set(folder);
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: x.npy\npreproces: {mean: 0}\n"),
              "data.yaml:3: 'preproces'; did you mean 'preprocess'?");
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: x.npy\npreprocess:\n  scale: 1\n  stdev: 2\n"),
              "data.yaml:5: 'stdev'; did you mean 'std'?");
  EXPECT_SAYS(refusal(folder, "format: nyp\n"), "did you mean 'npy'?");
  EXPECT_SAYS(refusal(folder, "inputs: x.npy\n"), "lacks `format`");
  EXPECT_SAYS(refusal(folder, "format: npy\n"), "names no samples");
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: x.npy\ninputs: x.npy\n"), "stands twice");
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: x.npy\ntest: {count: many}\n"), "whole number from 1");
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: x.npy\npreprocess: {std: 0}\n"), "divides by zero");
  EXPECT_SAYS(refusal(folder, "format: [npy\n"), "can't be parsed");
  EXPECT_SAYS(refusal(folder, "- format\n"), "`key: value` lines");
}

TEST(Dataset, RefusesBadSamples) {
  TestFolder folder;
  write_small_set(folder);
  const std::string npy = "format: npy\ninputs: x.npy\n";
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: none.npy\n"), "There is no such file");
  EXPECT_SAYS(refusal(folder, npy + "test: {count: 5}\n"), "5 of 4");
  EXPECT_SAYS(refusal(folder, npy + "calibration: {seed: 1}\n"), "leaves none to test");
  write_npy(folder.path("short.npy"), Tensor::of<int64_t>({3}, {0, 1, 2}));
  EXPECT_SAYS(refusal(folder, npy + "labels: short.npy\n"), "4 samples in");
  write_npy(folder.path("float.npy"), Tensor::of<float>({4}, {0, 1, 2, 0}));
  EXPECT_SAYS(refusal(folder, npy + "labels: float.npy\n"), "one whole number per sample");
  write_npy(folder.path("none.npy"), Tensor(DType::kUint8, {0, 2, 2}));
  EXPECT_SAYS(refusal(folder, "format: npy\ninputs: none.npy\n"), "The data set is empty");
  EXPECT_SAYS(refusal(folder, "format: idx\nimages: x.npy\n"), "not an IDX file");
  EXPECT_SAYS(refusal(folder, "format: cifar10\nfiles: x.npy\n"), "no whole number of CIFAR-10 records");
  std::string record(3073, '\0');
  record[0] = 10;
  folder.write("bad.bin", record);
  EXPECT_SAYS(refusal(folder, "format: cifar10\nfiles: bad.bin\n"), "outside 0 to 9");
  folder.write("cut.gz", std::string_view("\x1f\x8b\x08\0\0\0\0\0\0\x03\x63\x60", 12));
  EXPECT_SAYS(refusal(folder, "format: idx\nimages: cut.gz\n"), "end too early");
  make_folders(folder.path("empty"));
  EXPECT_SAYS(refusal(folder, "format: folder\nfolder: empty\n"), "The data set is empty");
  EXPECT_SAYS(refusal(folder, "format: folder\nfolder: nowhere\n"), "There is no such folder");
}

TEST(Dataset, DigestFollowsWhatMatters) {
  TestFolder folder;
  write_small_set(folder);
  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\n";
  const std::string digest = open_text(folder, head).digest();
  EXPECT_EQ(digest, open_text(folder, head + "# a remark\n").digest());
  EXPECT_NE(digest, open_text(folder, head + "preprocess: {mean: 1}\n").digest());
  EXPECT_NE(digest, open_text(folder, head + "label_offset: 1\n").digest());
  EXPECT_NE(digest, open_text(folder, head + "test: {count: 3}\n").digest());
}

/// Reports and rollouts refer to these: they must stay what they were before there was a training split.
TEST(Dataset, DigestStaysWhatReportsReferTo) {
  TestFolder folder;
  write_small_set(folder);
  write_npy(folder.path("tx.npy"), Tensor(DType::kUint8, {3, 2, 2}));
  write_npy(folder.path("ty.npy"), Tensor::of<int64_t>({3}, {2, 1, 0}));
  const std::string shared = "format: npy\ninputs: x.npy\nlabels: y.npy\ncalibration: {count: 1, seed: 3}\n";
  const std::string separate =
      "format: npy\ncalibration: {inputs: x.npy, labels: y.npy, count: 3, seed: 1}\n"
      "test: {inputs: tx.npy, labels: ty.npy, count: 2, seed: 2}\n"
      "preprocess: {color: gray, mean: 0.5, std: 0.25}\nclasses: [a, b, c]\n";
  const std::string shared_digest = "aa769c864af61d2c8b1ff20acc9a2c73bdbdde8cb96150ba38aca37c6d4d3fd3";
  const std::string separate_digest = "4e26cb0b1a08e68d230a7791648244047ba7ff30436ad9cf47bce4c30e252575";
  EXPECT_EQ(open_text(folder, shared).digest(), shared_digest);
  EXPECT_EQ(open_text(folder, separate).digest(), separate_digest);
  const std::string trained = "train: {inputs: x.npy, labels: y.npy, count: 1}\naugment: {crop: 1}\n";
  EXPECT_EQ(open_text(folder, shared + trained).digest(), shared_digest);
  EXPECT_EQ(open_text(folder, separate + trained).digest(), separate_digest);
  const Dataset data = open_text(folder, shared);
  EXPECT_NE(data.train_digest(), data.digest());
  EXPECT_EQ(data.digest(), shared_digest);
}

std::vector<std::string> names_of(const Dataset& data, Split split) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < data.size(split); ++i) names.push_back(data.sample_name(split, i));
  return names;
}

TEST(TrainSplit, IsByDefaultWhatCalibrationIsDrawnFrom) {
  TestFolder folder;
  write_small_set(folder);
  write_npy(folder.path("tx.npy"), Tensor(DType::kUint8, {3, 2, 2}));
  write_npy(folder.path("ty.npy"), Tensor::of<int64_t>({3}, {2, 1, 0}));
  const Dataset separate = open_text(folder,
                                     "format: npy\ncalibration: {inputs: x.npy, labels: y.npy, count: 1}\n"
                                     "test: {inputs: tx.npy, labels: ty.npy}\npreprocess: {color: gray, scale: 1}\n");
  EXPECT_EQ(names_of(separate, Split::kTrain),
            (std::vector<std::string>{"x.npy[0]", "x.npy[1]", "x.npy[2]", "x.npy[3]"}));
  EXPECT_EQ(separate.label(Split::kTrain, 2), 2);
  EXPECT_TRUE(separate.has_labels(Split::kTrain));
  EXPECT_TRUE(separate.train_warnings().empty());
  EXPECT_EQ(separate.input(Split::kTrain, 3).values<float>()[2], 14);
  EXPECT_FALSE(separate.augment().has_value());

  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\n";
  const Dataset shared = open_text(folder, head + "calibration: {count: 1, seed: 3}\ntest: {count: 2}\n");
  const auto test = names_of(shared, Split::kTest), train = names_of(shared, Split::kTrain);
  EXPECT_EQ(train.size(), 2u);
  for (const std::string& name : train) EXPECT_EQ(std::count(test.begin(), test.end(), name), 0);
  EXPECT_EQ(std::count(train.begin(), train.end(), shared.sample_name(Split::kCalibration, 0)), 1);

  const Dataset without = open_text(folder, head);
  EXPECT_EQ(without.size(Split::kTrain), 0);
  EXPECT_FALSE(without.has_labels(Split::kTrain));
  EXPECT_SAYS(error_of([&] { without.input(Split::kTrain, 0); }), "The train split holds 0 samples");
  const Dataset unlabelled = open_text(
      folder, "format: npy\ncalibration: {inputs: x.npy, count: 3}\ntest: {inputs: tx.npy, labels: ty.npy}\n");
  EXPECT_FALSE(unlabelled.has_labels(Split::kTrain));
  EXPECT_TRUE(unlabelled.has_labels());
}

TEST(TrainSplit, IsWhatTheFileSaysAndNeverTested) {
  TestFolder folder;
  write_small_set(folder);
  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\n",
                    calibrated = head + "calibration: {count: 1}\n";
  std::set<std::vector<std::string>> drawn;
  for (int seed = 0; seed < 20; ++seed) {
    const std::string text = calibrated + fmt::format("test: {{count: 1}}\ntrain: {{count: 2, seed: {}}}\n", seed);
    const Dataset data = open_text(folder, text);
    const auto train = names_of(data, Split::kTrain);
    EXPECT_EQ(train.size(), 2u);
    EXPECT_TRUE(std::is_sorted(train.begin(), train.end()));
    EXPECT_EQ(std::count(train.begin(), train.end(), data.sample_name(Split::kTest, 0)), 0);
    EXPECT_EQ(train, names_of(open_text(folder, text), Split::kTrain));
    drawn.insert(train);
  }
  EXPECT_EQ(drawn.size(), 3u);
  EXPECT_EQ(open_text(folder, head + "test: {count: 3}\ntrain: {}\n").size(Split::kTrain), 1);
  const Dataset borrowed =
      open_text(folder, "format: npy\ncalibration: {inputs: x.npy, labels: y.npy, count: 1}\ntrain: {count: 3}\n");
  EXPECT_EQ(borrowed.size(Split::kTrain), 3);
  EXPECT_TRUE(borrowed.has_labels(Split::kTrain));
  EXPECT_SAYS(refusal(folder, head + "train: {}\n"), "The test split takes all 4 samples and leaves none to train on");
  EXPECT_SAYS(refusal(folder, calibrated + "test: {count: 1}\ntrain: {count: 4}\n"),
              "The train split asks for more samples than there are; lower `count`: 4 of 3");
  EXPECT_SAYS(refusal(folder, head + "train: {counts: 1}\n"), "did you mean 'count'?");
  EXPECT_SAYS(refusal(folder, head + "train: {inputs: none.npy}\n"), "There is no such file");
  EXPECT_SAYS(refusal(folder, "format: npy\ntrain: {inputs: x.npy}\n"), "names no samples to calibrate or test with");
  EXPECT_SAYS(refusal(folder, head + "train: {inputs: x.npy, samples: arrays}\n"), "set `samples` in both");
}

TEST(TrainSplit, OverlapWithTestIsTold) {
  TestFolder folder;
  write_small_set(folder);
  const std::string tested = "test: {inputs: x.npy, labels: y.npy, count: 3}\n";
  const Dataset stated = open_text(folder, "format: npy\n" + tested + "train: {inputs: x.npy}\n");
  ASSERT_EQ(stated.warnings().size(), 1u);
  EXPECT_SAYS(stated.warnings()[0], "3 of the 4 train samples are in the test split too");
  EXPECT_EQ(stated.train_warnings(), stated.warnings());
  const Dataset implied = open_text(folder, "format: npy\n" + tested + "calibration: {inputs: x.npy, count: 4}\n");
  ASSERT_EQ(implied.warnings().size(), 1u);
  EXPECT_SAYS(implied.warnings()[0], "3 of the 4 calibration samples");
  ASSERT_EQ(implied.train_warnings().size(), 2u);
  EXPECT_SAYS(implied.train_warnings()[1], "3 of the 4 train samples");
}

TEST(TrainSplit, LabelsOutOfRangeAreNamed) {
  TestFolder folder;
  write_small_set(folder);
  write_npy(folder.path("bad.npy"), Tensor::of<int64_t>({4}, {0, 1, 7, 0}));
  const std::string test = "format: npy\nclasses: [a, b, c]\ntest: {inputs: x.npy, labels: y.npy}\n";
  EXPECT_SAYS(refusal(folder, test + "train: {inputs: x.npy, labels: bad.npy}\n"),
              "A label lies outside the 3 classes; correct it or `label_offset`: 7 of x.npy[2]");
  // Seed 0 draws another sample: who does not train is not bothered.
  const Dataset data = open_text(folder, test + "calibration: {inputs: x.npy, labels: bad.npy, count: 1}\n");
  EXPECT_SAYS(error_of([&] { data.size(Split::kTrain); }), "7 of x.npy[2]");
  EXPECT_SAYS(error_of([&] { data.train_digest(); }), "7 of x.npy[2]");
  folder.write("new.csv", "label\na\nb\nz\na\n");
  EXPECT_SAYS(refusal(folder, test + "train: {inputs: x.npy, labels: new.csv}\n"),
              "A label is not among `classes`; add it there or use `label_map`: 'z' of x.npy[2]");
}

TEST(TrainSplit, AugmentIsReadForPicturesOnly) {
  TestFolder folder;
  write_small_set(folder);
  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\n";
  EXPECT_EQ(open_text(folder, head + "augment: {crop: 1, flip: true}\n").augment(), (Augment{1, true}));
  EXPECT_EQ(open_text(folder, head + "augment: {flip: true}\n").augment(), (Augment{0, true}));
  EXPECT_EQ(open_text(folder, head + "augment: {}\n").augment(), Augment{});
  EXPECT_SAYS(refusal(folder, head + "augment: {crop: 1025}\n"), "A whole number from 0 to 1024");
  EXPECT_SAYS(refusal(folder, head + "augment: {flip: often}\n"), "data.yaml:4: flip");
  EXPECT_SAYS(refusal(folder, head + "augment: {mirror: true}\n"), "no such key");
  EXPECT_SAYS(refusal(folder, head + "samples: arrays\naugment: {crop: 1}\n"), "Only pictures can be augmented");
}

TEST(TrainSplit, DigestFollowsWhatTrainingSees) {
  TestFolder folder;
  write_small_set(folder);
  const std::string head = "format: npy\ninputs: x.npy\nlabels: y.npy\ncalibration: {count: 1}\n";
  const std::string digest = open_text(folder, head + "train: {}\ntest: {count: 1}\n").train_digest();
  EXPECT_EQ(digest, open_text(folder, head + "test: {count: 1}\n").train_digest());
  std::set<std::string> digests = {digest};
  for (const char* more : {"train: {count: 2}\n", "label_offset: 1\n", "preprocess: {mean: 1}\n",
                           "classes: [a, b, c]\n", "augment: {crop: 1}\n", "augment: {flip: true}\n"})
    EXPECT_TRUE(digests.insert(open_text(folder, head + "test: {count: 1}\n" + more).train_digest()).second) << more;
}

Graph model_of(DType dtype, const Shape& input, int64_t scores) {
  Graph model;
  const ValueId x = model.add_input("x", dtype, input);
  const ValueId y = model.add_node({.op_type = "Gemm", .inputs = {x, x}}, "y");
  model.set_type(y, DType::kFloat32, Shape({Dim("N"), Dim(scores)}));
  model.add_output(y);
  return model;
}

TEST(Dataset, FitsAModelThatTakesItsSamplesAndScoresItsClasses) {
  TestFolder folder;
  write_npy(folder.path("x.npy"), Tensor(DType::kFloat32, {4, 3}));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({4}, {0, 1, 1, 0}));
  const Dataset data = open_text(folder, "format: npy\ninputs: x.npy\nlabels: y.npy\nclasses: [a, b]\n");
  require_fitting(data, model_of(DType::kFloat32, Shape({Dim("N"), Dim(3)}), 2));
  require_fitting(data, model_of(DType::kFloat32, Shape({Dim(1), Dim("width")}), 2));
  require_fitting(data, model_of(DType::kFloat32, Shape(), 2));
  const auto refusal = [&](const Graph& model) -> std::string {
    try {
      require_fitting(data, model);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  for (const Graph& model : {model_of(DType::kFloat32, Shape({Dim("N"), Dim(4)}), 2),
                             model_of(DType::kFloat32, Shape({Dim("N"), Dim(3), Dim(1)}), 2),
                             model_of(DType::kUint8, Shape({Dim("N"), Dim(3)}), 2)})
    EXPECT_NE(refusal(model).find("do not fit the model; correct `dims`"), std::string::npos) << refusal(model);
  const std::string scores = refusal(model_of(DType::kFloat32, Shape({Dim("N"), Dim(3)}), 3));
  EXPECT_NE(scores.find("3 scores"), std::string::npos) << scores;
  const std::string label = refusal(model_of(DType::kFloat32, Shape({Dim("N"), Dim(3)}), 1));
  EXPECT_NE(label.find("beyond the model's 1 scores"), std::string::npos) << label;
}

// Pictures NN.png, of which those of these numbers are cut off.
void write_pictures(const TestFolder& folder, int count, const std::set<int>& cut_off) {
  for (int i = 0; i < count; ++i) {
    std::vector<std::byte> png = encode_png(Image{4, 4, 1, std::vector<uint8_t>(16, static_cast<uint8_t>(i))});
    if (cut_off.contains(i)) png.resize(png.size() / 2);
    write_file(folder.write(fmt::format("pictures/a/{:02}.png", i), ""), std::span<const std::byte>(png));
  }
}

TEST(Dataset, BadSamplesAreListedTogether) {
  TestFolder folder;
  write_pictures(folder, 40, {3, 17});
  const Dataset data = open_text(folder, "format: folder\nfolder: pictures\npreprocess: {color: gray}\n");
  ASSERT_EQ(data.size(Split::kTest), 40);
  data.input(Split::kTest, 2);
  const std::string message = error_of([&] { data.batch(Split::kTest, 0, 40, 2); });
  EXPECT_SAYS(message, "2 of the 40 test samples can't be read");
  EXPECT_SAYS(message, "03.png");
  EXPECT_SAYS(message, "17.png");
  EXPECT_SAYS(message, "on_bad_sample: skip");
  EXPECT_EQ(error_of([&] { data.input(Split::kTest, 17); }), message);
}

TEST(Dataset, SkipsBadSamplesUpToABound) {
  TestFolder folder;
  const std::string text = "format: folder\nfolder: pictures\non_bad_sample: skip\npreprocess: {color: gray}\n";
  write_pictures(folder, 40, {3, 17});
  const Dataset data = open_text(folder, text);
  EXPECT_EQ(data.size(Split::kTest), 38);
  EXPECT_EQ(data.sample_name(Split::kTest, 3), "a/04.png");
  EXPECT_EQ(data.batch(Split::kTest, 0, 38).dims().at(0), 38);
  ASSERT_EQ(data.warnings().size(), 1u);
  EXPECT_SAYS(data.warnings()[0], "Left out: 2 of the 40 test samples can't be read");
  write_pictures(folder, 40, {3, 17, 20});
  EXPECT_SAYS(refusal(folder, text), "More than 5 % of a split is too much to skip");
  EXPECT_SAYS(refusal(folder, "format: folder\nfolder: pictures\non_bad_sample: guess\n"), "on_bad_sample");
}

}  // namespace
}  // namespace slipway
