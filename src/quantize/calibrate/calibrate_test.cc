#include "quantize/calibrate/calibrate.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "quantize/ptq/quantize_testing.h"

namespace slipway {
namespace {

Graph network(const std::string& batch) {
  return graph_of("const %w : f32[2,1,1,1] = {1, -2}\ninput %x : f32[" + batch + R"(,1,2,2]
  %c = Conv(%x, %w) "conv"
  %r = Relu(%c)
  %s = Sqrt(%c)
  output %r)");
}

/// Sample i holds values around i.
CalibrationSource numbered_samples(int64_t count) {
  return {count,
          [](std::span<const int64_t> indices) {
            std::vector<std::vector<Tensor>> requests;
            for (const int64_t index : indices) {
              const auto v = static_cast<float>(index);
              requests.push_back({Tensor::of<float>({1, 1, 2, 2}, {v, v + 0.125f, v + 0.25f, v + 0.375f})});
            }
            return requests;
          },
          "digest"};
}

const std::vector<std::string> kNames = {"x", "r"};

TEST(Calibrate, ObservesInputsAndInnerTensors) {
  const Calibration c = calibrate(network("N"), numbered_samples(10), kNames, {.engine = "reference"});
  EXPECT_EQ(c.samples, 10);
  EXPECT_EQ(c.data_digest, "digest");
  EXPECT_EQ(c.tensors.at("x").count(), 40u);
  EXPECT_EQ(c.tensors.at("x").max(), 9.375f);
  EXPECT_EQ(c.tensors.at("r").count(), 80u);
  EXPECT_EQ(c.tensors.at("r").zeros(), 41u);
}

TEST(Calibrate, BatchShardsAndEngineDoNotMatter) {
  const Graph graph = network("N");
  const CalibrationSource source = numbered_samples(23);
  const Calibration whole = calibrate(graph, source, kNames, {.samples = 17, .batch = 1, .engine = "reference"});
  for (const int64_t batch : {4, 5, 64})
    EXPECT_EQ(calibrate(graph, source, kNames, {.samples = 17, .batch = batch}), whole) << batch;
  Calibration merged = calibrate(graph, source, kNames, {.samples = 17, .shard = 2, .shards = 3});
  for (const int64_t shard : {0, 1})
    merged.merge(calibrate(graph, source, kNames, {.samples = 17, .batch = 3, .shard = shard, .shards = 3}));
  EXPECT_EQ(merged, whole);
  EXPECT_EQ(calibrate(network("1"), source, kNames, {.samples = 17}), whole);
}

// The mean over the batch is each sample's own only when it is alone.
TEST(Calibrate, RowsThatMixAreObservedOneSampleAtATime) {
  const Graph graph = graph_of(R"(input %x : f32[N,1,2,2]
  %m = ReduceMean(%x) {axes = [0], keepdims = 1}
  %r = Sub(%x, %m)
  output %r)");
  const Calibration c = calibrate(graph, numbered_samples(10), kNames, {.samples = 10, .batch = 4});
  EXPECT_EQ(c.tensors.at("r").zeros(), 40u);
}

TEST(Calibrate, SamplesAreSpreadOverTheSource) {
  const Calibration c = calibrate(network("N"), numbered_samples(1000), kNames, {.samples = 4});
  EXPECT_EQ(c.tensors.at("x").min(), 0.0f);
  EXPECT_EQ(c.tensors.at("x").max(), 750.375f);
}

TEST(Calibrate, MemoryIsFlat) {
  const Calibration few = calibrate(network("N"), numbered_samples(400), kNames, {.samples = 4});
  const Calibration many = calibrate(network("N"), numbered_samples(400), kNames, {.samples = 400});
  EXPECT_EQ(few.bytes(), many.bytes());
}

TEST(Calibrate, FixedBatchLeavesTheRemainderOut) {
  EXPECT_EQ(calibrate(network("4"), numbered_samples(10), kNames).samples, 8);
  EXPECT_THROW(calibrate(network("4"), numbered_samples(3), kNames), Error);
}

TEST(Calibrate, NotFiniteValuesNameTensorAndNode) {
  try {
    calibrate(network("N"), numbered_samples(4), std::vector<std::string>{"r", "s"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidModel);
    const std::string message = error.what();
    EXPECT_NE(message.find("'s'"), std::string::npos) << message;
    EXPECT_NE(message.find("Sqrt"), std::string::npos) << message;
  }
}

TEST(Calibrate, RefusesWhatDoesNotFit) {
  const Graph graph = network("N");
  EXPECT_THROW(calibrate(graph, numbered_samples(4), std::vector<std::string>{"none"}), Error);
  EXPECT_THROW(calibrate(graph, numbered_samples(4), std::vector<std::string>{"w"}), Error);
  EXPECT_THROW(calibrate(graph, numbered_samples(0), kNames), Error);
  EXPECT_THROW(calibrate(graph, numbered_samples(4), kNames, {.samples = 0}), Error);
  EXPECT_THROW(calibrate(graph, numbered_samples(4), kNames, {.shard = 2, .shards = 2}), Error);
}

TEST(CalibrationFile, RoundTripsAndSaysWhatIsWrong) {
  const Calibration calibration = calibrate(network("N"), numbered_samples(10), kNames);
  const std::string path = testing::TempDir() + "slipway_calibration.json";
  save_calibration(calibration, path);
  EXPECT_EQ(load_calibration(path), calibration);
  const std::string text = read_text_file(path);
  const auto error_of = [&](const std::string& content) {
    write_file(path, content);
    try {
      load_calibration(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(error_of(text.substr(0, text.size() / 2)).find(path), std::string::npos);
  EXPECT_NE(error_of("[]").find(path), std::string::npos);
  EXPECT_NE(error_of(R"({"format": "other"})").find("format"), std::string::npos);
  std::string damaged = text;
  damaged.replace(damaged.find("\"zeros\":"), 8, "\"zeros\":9");
  EXPECT_NE(error_of(damaged).find("tensor 'r'"), std::string::npos);
  EXPECT_THROW(load_calibration(path + ".none"), Error);
}

TEST(CalibrationFile, DifferentModelsOrDataDoNotMerge) {
  Calibration a = calibrate(network("N"), numbered_samples(4), kNames);
  Calibration other_data = a, other_model = calibrate(network("N"), numbered_samples(4), std::vector<std::string>{"x"});
  other_data.data_digest = "other";
  EXPECT_THROW(a.merge(other_data), Error);
  EXPECT_THROW(a.merge(other_model), Error);
}

}  // namespace
}  // namespace slipway
