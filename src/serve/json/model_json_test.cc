// What clients learn of the server and its models.
#include "serve/json/model_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

using nlohmann::json;

TEST(ModelJson, MetadataNamesPortsWithTheBatchAsMinusOne) {
  const auto server = make_server({make_version(scaling_graph(2))});
  server->add(make_version(scaling_graph(3), "m", 2));
  const json metadata = model_metadata_json(*server, "m", "");
  EXPECT_EQ(metadata["name"], "m");
  EXPECT_EQ(metadata["versions"], json({"1", "2"}));
  EXPECT_EQ(metadata["inputs"], json::parse(R"([{"name":"x","datatype":"FP32","shape":[-1,4]}])"));
  EXPECT_EQ(metadata["outputs"], json::parse(R"([{"name":"y","datatype":"FP32","shape":[-1,4]}])"));
  EXPECT_EQ(server_metadata_json()["name"], "slipway");
  for (const char* missing : {"other", ""}) {
    try {
      model_metadata_json(*server, missing[0] == 0 ? "m" : missing, missing[0] == 0 ? "9" : "");
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    }
  }
}

TEST(ModelJson, ConfigurationLeavesTheBatchAxisOut) {
  ModelConfig config;
  config.batching.max_rows = 8;
  config.batching.delay_us = 250;
  const auto server = make_server({make_version(scaling_graph(2), "m", 1, config),
                                   make_version(identity_graph(DType::kInt64, Shape({Dim(2), Dim(3)})), "fixed"),
                                   make_version(identity_graph(DType::kString, Shape({Dim("N")})), "text")});
  const json batched = model_config_json(*server, "m", "1");
  EXPECT_EQ(batched["max_batch_size"], 8);
  EXPECT_EQ(batched["input"][0]["data_type"], "TYPE_FP32");
  EXPECT_EQ(batched["input"][0]["dims"], json({4}));
  EXPECT_EQ(batched["dynamic_batching"]["max_queue_delay_microseconds"], 250);
  const json fixed = model_config_json(*server, "fixed", "");
  EXPECT_EQ(fixed["max_batch_size"], 0);
  EXPECT_EQ(fixed["output"][0]["dims"], json({2, 3}));
  EXPECT_FALSE(fixed.contains("dynamic_batching"));
  EXPECT_EQ(model_config_json(*server, "text", "")["input"][0]["data_type"], "TYPE_STRING");
}

TEST(ModelJson, StatisticsCountWhatWasAnswered) {
  const auto server = make_server({make_version(scaling_graph(2)), make_version(scaling_graph(3), "other")});
  ASSERT_FALSE(infer_and_wait(*server, request_of(Tensor::of<float>({3, 4}, std::vector<float>(12, 1.0f)))).error);
  ASSERT_FALSE(infer_and_wait(*server, request_of(Tensor::of<float>({1, 4}, std::vector<float>(4, 1.0f)))).error);
  ASSERT_TRUE(infer_and_wait(*server, request_of(Tensor::of<float>({1, 5}, std::vector<float>(5, 1.0f)))).error);
  const json all = statistics_json(*server);
  EXPECT_EQ(all["model_stats"].size(), 2u);
  const json stats = statistics_json(*server, "m")["model_stats"][0];
  EXPECT_EQ(stats["version"], "1");
  EXPECT_EQ(stats["inference_count"], 4);
  EXPECT_EQ(stats["inference_stats"]["success"]["count"], 2);
  EXPECT_EQ(stats["inference_stats"]["fail"]["count"], 1);
  EXPECT_GE(stats["inference_stats"]["success"]["ns"].get<int64_t>(),
            stats["inference_stats"]["compute_infer"]["ns"].get<int64_t>());
  int64_t executions = 0;
  for (const json& batch : stats["batch_stats"]) executions += batch["compute_infer"]["count"].get<int64_t>();
  EXPECT_EQ(stats["execution_count"], executions);
  EXPECT_EQ(statistics_json(*server, "other", "1")["model_stats"][0]["inference_count"], 0);
  EXPECT_THROW(statistics_json(*server, "none"), Error);
}

}  // namespace
}  // namespace slipway
