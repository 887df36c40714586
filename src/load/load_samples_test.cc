#include "load/load_samples.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "data/npy.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

/// Ten grey pictures of 8×8, the i-th all i.
Dataset pictures(const TestFolder& folder) {
  std::vector<uint8_t> pixels(10 * 64);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i / 64);
  write_npy(folder.path("x.npy"), Tensor::of<uint8_t>({10, 8, 8}, pixels));
  write_npy(folder.path("c.npy"), Tensor::of<uint8_t>({4, 8, 8}, std::vector<uint8_t>(4 * 64, 255)));
  return Dataset::open(folder.write("data.yaml",
                                    "format: npy\ntest: {images: x.npy}\ncalibration: {images: c.npy}\n"
                                    "preprocess: {color: gray, scale: 1}\n"));
}

const ModelDescription kModel = {"m", {{"image", DType::kFloat32, {-1, 1, 8, 8}}}};

float first(const LoadSample& sample) {
  float value = 0;
  std::memcpy(&value, sample.inputs[0].bytes.data(), sizeof value);
  return value;
}

TEST(LoadSamples, SpreadOverTheTestSplit) {
  const TestFolder folder;
  const auto samples = dataset_samples(pictures(folder), kModel, {.max_samples = 5});
  ASSERT_EQ(samples.size(), 5u);
  EXPECT_EQ(samples[1].inputs[0].name, "image");
  EXPECT_EQ(samples[1].inputs[0].dims, (Dims{1, 1, 8, 8}));
  EXPECT_EQ(samples[1].inputs[0].bytes.size(), 256u);
  EXPECT_EQ(first(samples[0]), 0);
  EXPECT_EQ(first(samples[4]), 8);
  EXPECT_EQ(dataset_samples(pictures(folder), kModel, {.max_samples = 99}).size(), 10u);
  EXPECT_EQ(dataset_samples(pictures(folder), kModel, {.max_bytes = 600}).size(), 3u);
  const auto files = picture_samples(pictures(folder), {.max_samples = 3});
  ASSERT_EQ(files.size(), 3u);
  const Image image = decode_image(std::as_bytes(std::span(files[2].picture)), "png");
  EXPECT_EQ(image.width, 8);
  EXPECT_EQ(image.pixels[0], 6);
}

TEST(LoadSamples, RefusesDataThatDoNotFit) {
  const TestFolder folder;
  const Dataset data = pictures(folder);
  EXPECT_THROW(dataset_samples(data, {"m", {{"image", DType::kInt64, {-1, 1, 8, 8}}}}), Error);
  EXPECT_THROW(dataset_samples(data, {"m", {kModel.inputs[0], kModel.inputs[0]}}), Error);
  EXPECT_THROW(dataset_samples(data, {"m", {}}), Error);
}

TEST(LoadSamples, RandomTensors) {
  const ModelDescription model = {"m", {{"x", DType::kFloat32, {-1, 3}}, {"n", DType::kInt64, {2}}}};
  const auto samples = random_samples(model, 4, 1);
  ASSERT_EQ(samples.size(), 4u);
  EXPECT_EQ(samples[0].inputs[0].dims, (Dims{1, 3}));
  EXPECT_EQ(samples[0].inputs[0].bytes.size(), 12u);
  EXPECT_EQ(samples[0].inputs[1].bytes.size(), 16u);
  EXPECT_NE(first(samples[0]), first(samples[1]));
  EXPECT_EQ(first(samples[3]), first(random_samples(model, 4, 1)[3]));
  EXPECT_THROW(random_samples({"m", {{"x", DType::kFloat32, {-1, -1}}}}), Error);
  EXPECT_THROW(random_samples({"m", {{"x", DType::kString, {1}}}}), Error);
  EXPECT_THROW(random_samples({"m", {{"x", DType::kFloat32, {1 << 30, 1 << 30}}}}), Error);
}

TEST(LoadSamples, RecordedRequests) {
  const auto record = [](const std::string& model, int64_t arrival_us, const std::string& error) {
    RecordedRequest r{.model = model, .id = std::to_string(arrival_us), .arrival_us = arrival_us, .error = error};
    r.inputs = {{"x", DType::kFloat32, {0}, {}}};
    return r;
  };
  const std::vector<RecordedRequest> records = {record("a", 5000, ""), record("a", 3000, "overloaded"),
                                                record("a", 4000, "invalid_argument"), record("a", 9000, "")};
  const auto paced = recorded_samples(records, "", 2);
  ASSERT_EQ(paced.size(), 3u);
  EXPECT_EQ(paced[0].id, "3000");
  EXPECT_EQ(paced[0].at_us, 0);
  EXPECT_EQ(paced[1].at_us, 1000);
  EXPECT_EQ(paced[2].at_us, 3000);
  EXPECT_EQ(recorded_samples(records, "a", 0)[2].at_us, -1);
  EXPECT_THROW(recorded_samples(records, "b", 1), Error);
  EXPECT_THROW(recorded_samples({}, "", 1), Error);
  EXPECT_THROW(recorded_samples({records[0], record("b", 0, "")}, "", 1), Error);
}

}  // namespace
}  // namespace slipway
