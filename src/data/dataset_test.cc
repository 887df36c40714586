#include "data/dataset.h"

#include <gtest/gtest.h>

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

TEST(Dataset, ClassesMustBeAsManyAsTheModelsScores) {
  TestFolder folder;
  write_npy(folder.path("x.npy"), Tensor(DType::kFloat32, {4, 3}));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({4}, {0, 1, 1, 0}));
  const Dataset data = open_text(folder, "format: npy\ninputs: x.npy\nlabels: y.npy\nclasses: [a, b]\n");
  const auto model_with = [](int64_t scores) {
    Graph model;
    model.add_output(model.add_input("scores", DType::kFloat32, Shape({Dim("N"), Dim(scores)})));
    return model;
  };
  data.require_classes_of(model_with(2));
  EXPECT_THROW(data.require_classes_of(model_with(3)), Error);
}

}  // namespace
}  // namespace slipway
