// The configuration's YAML, and its fuzz target over the corpus and seeded mutations of each file.
#include <gtest/gtest.h>

#include "base/replay_corpus.h"

#define LLVMFuzzerTestOneInput fuzz_model_config
#include "serve/model_config_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

TEST(ModelConfig, CorpusAndMutations) { replay_corpus("model_config_fuzz", fuzz_model_config); }

TEST(ModelConfig, IsReadStrictly) {
  const ModelConfig c = parse_model_config(
      "batching: {max_rows: 4, delay_us: 100}\ntimeout_ms: 50\nsticky: {header: X-User}\nclasses: [a, b]\n"
      "preprocess: {resize: [8, 8], color: gray}\ndims: {seq: 7}\n"
      "pad: {sizes: [8, 16], inputs: {ids: 0, x: -1.5}, outputs: {y: 2}}\n",
      "c.yaml");
  EXPECT_EQ(c.batching.max_rows, 4);
  EXPECT_EQ(c.sticky_header, "X-User");
  EXPECT_EQ(c.preprocess->resize_height, 8);
  EXPECT_EQ(c.dims.at("seq"), 7);
  EXPECT_EQ(c.labels.size(), 2u);
  EXPECT_EQ(c.padding, (Padding{.sizes = {8, 16}, .inputs = {{"ids", 0}, {"x", -1.5}}, .outputs = {{"y", 2}}}));
  for (const char* bad :
       {"batch: 3", "instances: 0", "batching: {max_rows: x}", "dims: {a: 0}", "- a", "preprocess: {std: 0}",
        "pad: {sizes: [8]}", "pad: {inputs: {x: 0}}", "pad: {sizes: [8, 8], inputs: {x: 0}}",
        "pad: {sizes: [8], inputs: {x: nan}}", "pad: {sizes: [8], inputs: {x: a}}"})
    EXPECT_THROW(parse_model_config(bad, "c.yaml"), Error) << bad;
  const ModelConfig defaults = parse_model_config(model_config_template(), "c.yaml");
  EXPECT_EQ(defaults.batching.max_rows, ModelConfig().batching.max_rows);
  for (const char* empty : {"", "# instances: 2\n"})
    EXPECT_EQ(parse_model_config(empty, "c.yaml").instances, ModelConfig().instances) << empty;
}

}  // namespace
}  // namespace slipway
