#include "data/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/test_folder.h"

namespace slipway {
namespace {

/// scale 1, so that a black pixel is −mean/std: −1, −2, −3.
const Preprocess kColor{.scale = 1, .mean = {1, 4, 3}, .std = {1, 2, 1}};
const Preprocess kGray{.color = "gray", .scale = 1, .mean = {9}};

std::vector<float> augmented(const Augment& options, const Preprocess& how, const Dims& dims,
                             const std::vector<float>& from, Random& random) {
  std::vector<float> to(from.size(), 1e9f);
  augment_sample(options, how, dims, from, random, to);
  return to;
}

std::vector<float> counted(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
  return values;
}

/// The definition: out[c][y][x] = in[c][y + dy][mirrored x + dx], black outside.
std::vector<float> moved(const std::vector<float>& from, int64_t height, int64_t width, int64_t channels, int64_t dy,
                         int64_t dx, bool mirror, const std::vector<float>& black) {
  std::vector<float> to;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x) {
        const int64_t from_y = y + dy, from_x = (mirror ? width - 1 - x : x) + dx;
        const bool inside = from_y >= 0 && from_y < height && from_x >= 0 && from_x < width;
        to.push_back(inside ? from[static_cast<size_t>((c * height + from_y) * width + from_x)]
                            : black[static_cast<size_t>(c)]);
      }
  return to;
}

std::vector<float> nhwc(const std::vector<float>& planar, int64_t pixels) {
  std::vector<float> out(planar.size());
  const auto channels = static_cast<int64_t>(planar.size()) / pixels;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < pixels; ++i)
      out[static_cast<size_t>(i * channels + c)] = planar[static_cast<size_t>(c * pixels + i)];
  return out;
}

TEST(Augment, ShiftsAndMirrorsATinyPicture) {
  // 1 2 3      With crop 1 every result is one of these shifts of two rows, mirrored or not.
  // 4 5 6
  const std::set<std::vector<float>> expected_some = {{1, 2, 3, 4, 5, 6},      // as it is
                                                      {3, 2, 1, 6, 5, 4},      // mirrored
                                                      {5, 6, -9, -9, -9, -9},  // one up and left
                                                      {-9, 6, 5, -9, -9, -9},  // the same, mirrored
                                                      {-9, -9, -9, -9, 1, 2},  // one down and right
                                                      {-9, -9, -9, 2, 1, -9},  // the same, mirrored
                                                      {-9, 1, 2, -9, 4, 5},    // one right
                                                      {-9, -9, -9, 1, 2, 3}};  // one down
  std::map<std::vector<float>, int> seen;
  Random random(1);
  for (int i = 0; i < 3600; ++i)
    ++seen[augmented({.crop = 1, .flip = true}, kGray, {1, 2, 3}, {1, 2, 3, 4, 5, 6}, random)];
  EXPECT_EQ(seen.size(), 18u);
  for (const auto& picture : expected_some) EXPECT_TRUE(seen.count(picture));
  for (const auto& [picture, count] : seen) EXPECT_NEAR(count, 200, 70);  // five standard deviations
}

TEST(Augment, FollowsItsDefinitionInBothLayouts) {
  const int64_t height = 5, width = 7, crop = 3;
  const std::vector<float> from = counted(3 * height * width), black = {-1, -2, -3};
  Preprocess last = kColor;
  last.layout = "nhwc";
  std::set<std::vector<float>> possible;
  for (int64_t dy = -crop; dy <= crop; ++dy)
    for (int64_t dx = -crop; dx <= crop; ++dx)
      for (const bool mirror : {false, true}) possible.insert(moved(from, height, width, 3, dy, dx, mirror, black));
  std::set<std::vector<float>> seen;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Random random(seed), again(seed);
    const auto planar = augmented({.crop = crop, .flip = true}, kColor, {3, height, width}, from, random);
    ASSERT_TRUE(possible.count(planar)) << seed;
    seen.insert(planar);
    const auto interleaved =
        augmented({.crop = crop, .flip = true}, last, {height, width, 3}, nhwc(from, height * width), again);
    ASSERT_EQ(interleaved, nhwc(planar, height * width)) << seed;
  }
  EXPECT_EQ(seen, possible);
}

TEST(Augment, BlackIsWhatPreProcessingMakesOfIt) {
  Preprocess how{.mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}};
  const Tensor black = preprocess_image(how, {1, 1, 3, {0, 0, 0}});
  EXPECT_EQ(black_pixel(how, 3), std::vector<float>(black.values<float>().begin(), black.values<float>().end()));
  how.dtype = "i8", how.scale = 1, how.mean = {127.6}, how.std = {};
  EXPECT_EQ(black_pixel(how, 2), (std::vector<float>{-128, -128}));
  how.mean = {1, 2};
  EXPECT_NE(error_of([&] { black_pixel(how, 3); }).find("one mean per channel"), std::string::npos);
}

TEST(Augment, DrawsAlikeWhateverItDoes) {
  const std::vector<float> from = counted(6);
  for (const Augment& options : {Augment{}, Augment{.crop = 1}, Augment{.flip = true}, Augment{1, true}}) {
    Random random(5), reference(5), again(5);
    const auto first = augmented(options, kGray, {1, 2, 3}, from, random);
    EXPECT_EQ(first, augmented(options, kGray, {1, 2, 3}, from, again));
    if (options == Augment{}) {
      EXPECT_EQ(first, from);
    }
    for (int i = 0; i < 3; ++i) reference.next();
    EXPECT_EQ(random.next(), reference.next());
  }
}

TEST(Augment, RefusesWhatIsNoPictureOfThatLayout) {
  const auto refusal = [](const Augment& options, const Preprocess& how, const Dims& dims, int64_t count) {
    Random random(0);
    return error_of([&] { augmented(options, how, dims, counted(count), random); });
  };
  Preprocess last = kColor;
  last.layout = "nhwc";
  EXPECT_EQ(refusal({1, true}, kColor, {3, 2, 2}, 12), "");
  for (const Dims& dims : {Dims{2, 2, 3}, Dims{12}, Dims{1, 3, 2, 2}, Dims{3, 0, 2}, Dims{}})
    EXPECT_NE(refusal({}, kColor, dims, 12).find("Only pictures can be augmented"), std::string::npos);
  EXPECT_NE(refusal({}, last, {3, 2, 2}, 12).find("no nhwc picture of 3 channels"), std::string::npos);
  EXPECT_NE(refusal({}, kGray, {3, 2, 2}, 12).find("no nchw picture of 1 channels"), std::string::npos);
  EXPECT_NE(refusal({.crop = 2}, kColor, {3, 2, 4}, 24).find("2 for 4x2"), std::string::npos);
  EXPECT_NE(refusal({.crop = -1}, kColor, {3, 2, 2}, 12).find("crop"), std::string::npos);
  EXPECT_NE(refusal({}, kColor, {3, 2, 2}, 11).find("11 and 11 for [3,2,2]"), std::string::npos);
  last.layout = "chwn";
  EXPECT_NE(refusal({}, last, {2, 2, 3}, 12).find("no such layout"), std::string::npos);
}

}  // namespace
}  // namespace slipway
