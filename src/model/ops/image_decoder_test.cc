#include "base/image.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

Tensor decoded(const std::vector<std::byte>& file, const std::string& format) {
  const OpCall call{.op = "ImageDecoder", .opset = 20, .attributes = {{"pixel_format", format}}};
  const auto* data = reinterpret_cast<const uint8_t*>(file.data());
  return call.run({Tensor::of<uint8_t>({static_cast<int64_t>(file.size())}, std::span(data, file.size()))})[0];
}

TEST(ImageDecoder, GivesPixelsInTheOrderAskedFor) {
  const auto png = encode_png({1, 2, 3, {10, 20, 30, 40, 50, 60}});
  EXPECT_TRUE(decoded(png, "RGB").identical(Tensor::of<uint8_t>({1, 2, 3}, {10, 20, 30, 40, 50, 60})));
  EXPECT_TRUE(decoded(png, "BGR").identical(Tensor::of<uint8_t>({1, 2, 3}, {30, 20, 10, 60, 50, 40})));
  EXPECT_TRUE(decoded(png, "Grayscale").identical(Tensor::of<uint8_t>({1, 2, 1}, {18, 48})));
  const auto gray = encode_png({1, 1, 1, {7}});
  EXPECT_TRUE(decoded(gray, "BGR").identical(Tensor::of<uint8_t>({1, 1, 3}, {7, 7, 7})));
}

TEST(ImageDecoder, DamagedFilesAreEmptyAndOtherFormatsRefused) {
  auto png = encode_png({1, 2, 3, {10, 20, 30, 40, 50, 60}});
  png.resize(png.size() / 2);
  EXPECT_EQ(decoded(png, "RGB").dims(), (Dims{0, 0, 3}));
  EXPECT_EQ(decoded({}, "Grayscale").dims(), (Dims{0, 0, 1}));
  std::vector<std::byte> tiff;
  for (const char c : {'I', 'I', '*', '\0'}) tiff.push_back(static_cast<std::byte>(c));
  EXPECT_THROW(decoded(tiff, "RGB"), Error);
  EXPECT_THROW(decoded(png, "HSV"), Error);
  const OpCall call{.op = "ImageDecoder", .opset = 20};
  EXPECT_EQ(call.infer({facts(DType::kUint8, Shape::with_rank(1))})[0].shape.rank(), 3u);
  EXPECT_EQ(find_op("", "ImageDecoder", 19), nullptr);
}

}  // namespace
}  // namespace slipway
