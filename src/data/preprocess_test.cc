#include "data/preprocess.h"

#include <gtest/gtest.h>

#include "data/test_folder.h"

namespace slipway {
namespace {

std::vector<float> floats(const Tensor& t) { return {t.values<float>().begin(), t.values<float>().end()}; }

TEST(Preprocess, ScalesIntoEitherLayout) {
  const Image image{1, 2, 3, {0, 51, 102, 153, 204, 255}};
  Preprocess how{.mean = {0.5, 0, 0}, .std = {0.5, 1, 2}};
  const Tensor planar = preprocess_image(how, image);
  EXPECT_EQ(planar.dims(), (Dims{3, 1, 2}));
  const float second_red = static_cast<float>((153 * (1.0 / 255) - 0.5) / 0.5);
  EXPECT_EQ(floats(planar), (std::vector<float>{-1, second_red, 0.2f, 0.8f, 0.2f, 0.5f}));
  how = {.color = "bgr", .scale = 1, .layout = "nhwc"};
  EXPECT_EQ(floats(preprocess_image(how, image)), (std::vector<float>{102, 51, 0, 255, 204, 153}));
  how = {.color = "gray", .scale = 1};
  EXPECT_EQ(floats(preprocess_image(how, image)), (std::vector<float>{42, 195}));
  how = {.scale = 1};
  EXPECT_EQ(floats(preprocess_image(how, {1, 1, 1, {9}})), (std::vector<float>{9, 9, 9}));
}

TEST(Preprocess, RoundsAndSaturatesToIntegers) {
  const Preprocess how{.color = "gray", .scale = 1, .mean = {128.4}, .dtype = "i8"};
  const Tensor t = preprocess_image(how, {1, 3, 1, {0, 129, 255}});
  EXPECT_EQ(t.values<int8_t>()[0], -128);
  EXPECT_EQ(t.values<int8_t>()[1], 1);
  EXPECT_EQ(t.values<int8_t>()[2], 127);
}

TEST(Preprocess, ResizesShorterSideAndCropsAsTorchvision) {
  const Image image{5, 7, 1, std::vector<uint8_t>(35)};
  EXPECT_EQ(preprocess_image({.resize_shorter = 3, .color = "gray"}, image).dims(), (Dims{1, 3, 4}));
  EXPECT_EQ(preprocess_image({.resize_width = 3, .resize_height = 2}, image).dims(), (Dims{3, 2, 3}));
  // Python's round(2.5) is 2, round(1.5) is 2.
  Image ramp{1, 8, 1, {0, 1, 2, 3, 4, 5, 6, 7}};
  EXPECT_EQ(floats(preprocess_image({.crop_width = 3, .crop_height = 1, .color = "gray", .scale = 1}, ramp))[0], 2);
  EXPECT_EQ(floats(preprocess_image({.crop_width = 5, .crop_height = 1, .color = "gray", .scale = 1}, ramp))[0], 2);
}

TEST(Preprocess, RefusesWhatDoesNotFit) {
  const Image image{2, 2, 3, std::vector<uint8_t>(12)};
  const auto refusal = [&](const Preprocess& how) { return error_of([&] { preprocess_image(how, image); }); };
  EXPECT_NE(refusal({.crop_width = 3, .crop_height = 3}).find("3x3 out of 2x2"), std::string::npos);
  EXPECT_NE(refusal({.mean = {1, 2}}).find("one mean per channel"), std::string::npos);
  EXPECT_NE(refusal({.std = {0}}).find("must not be 0"), std::string::npos);
  EXPECT_NE(refusal({.resize_shorter = 1, .interpolation = "cubic"}).find("no such interpolation"), std::string::npos);
  EXPECT_NE(refusal({.color = "hsv"}).find("hsv"), std::string::npos);
  EXPECT_NE(refusal({.layout = "chw"}).find("chw"), std::string::npos);
  EXPECT_NE(refusal({.dtype = "str"}).find("str"), std::string::npos);
}

TEST(Preprocess, Arrays) {
  const Tensor array = Tensor::of<int8_t>({2, 2}, {-128, 0, 83, 127});
  const Tensor all = preprocess_array({.scale = 1, .mean = {83}, .std = {2}}, array);
  EXPECT_EQ(floats(all), (std::vector<float>{-105.5f, -41.5f, 0, 22}));
  const Tensor first = preprocess_array({.scale = 1, .mean = {0, 100}}, array);
  EXPECT_EQ(floats(first), (std::vector<float>{-128, 0, -17, 27}));
  const Tensor last = preprocess_array({.scale = 1, .mean = {0, 100}, .layout = "nhwc"}, array);
  EXPECT_EQ(floats(last), (std::vector<float>{-128, -100, 83, 27}));
  EXPECT_TRUE(preprocess_array({.scale = 1, .dtype = "i8"}, array).identical(array));
}

TEST(Preprocess, TravelsInTheMetadata) {
  Preprocess how{
      .input = "x", .resize_shorter = 256, .crop_width = 224, .crop_height = 224, .mean = {0.485, 0.456, 0.406}};
  Graph graph;
  Preprocess back;
  std::vector<std::string> labels;
  EXPECT_FALSE(load_preprocess(graph, back, labels));
  store_preprocess(graph, how, {"cat", "안녕"});
  ASSERT_TRUE(load_preprocess(graph, back, labels));
  EXPECT_EQ(back, how);
  EXPECT_EQ(labels, (std::vector<std::string>{"cat", "안녕"}));
  for (const char* bad : {"{", "[]7", R"({"scale": "much"})", R"({"resize_shorter": -1})", R"({"crop_width": 5})"}) {
    graph.metadata["slipway.preprocess"] = bad;
    EXPECT_THROW(load_preprocess(graph, back, labels), Error) << bad;
  }
}

TEST(Preprocess, SaysHowTwoContradict) {
  const Preprocess model{.input = "x", .mean = {0.5, 0.5, 0.5}};
  EXPECT_EQ(preprocess_difference({.scale = 0.00392, .mean = {0.5}, .std = {1}}, model), "");
  EXPECT_EQ(preprocess_difference({.mean = {0.5, 0.5, 0.4}}, model),
            "mean is [0.5,0.5,0.4] in the data file but [0.5,0.5,0.5] in the model");
  EXPECT_EQ(preprocess_difference({.mean = {0.5}, .layout = "nhwc"}, model),
            "layout is \"nhwc\" in the data file but \"nchw\" in the model");
  EXPECT_EQ(preprocess_difference({.scale = 1, .mean = {0.5}}, model).substr(0, 8), "scale is");
  EXPECT_NE(preprocess_difference({.input = "y", .mean = {0.5}}, model), "");
}

}  // namespace
}  // namespace slipway
