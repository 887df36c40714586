// Edge cases for verification, deterministic for a seed.
#include "data/corruption.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace slipway {
namespace {

constexpr double kDarkening = 0.3, kNoiseShare = 0.08, kBlurSigma = 1;
constexpr int64_t kBlurRadius = 3;
using Kernel = std::array<float, 2 * kBlurRadius + 1>;

uint8_t to_byte(double value) { return static_cast<uint8_t>(std::clamp(std::nearbyint(value), 0.0, 255.0)); }

Kernel gaussian() {
  Kernel kernel;
  float sum = 0;
  for (int64_t i = -kBlurRadius; i <= kBlurRadius; ++i)
    sum += kernel[static_cast<size_t>(i + kBlurRadius)] =
        static_cast<float>(std::exp(-static_cast<double>(i * i) / (2 * kBlurSigma * kBlurSigma)));
  for (float& weight : kernel) weight /= sum;
  return kernel;
}

/// Convolves lines of `length` values that lie `step` apart; `out` has the layout of `in`.
void blur_lines(const std::vector<float>& in, std::vector<float>& out, int64_t length, int64_t step) {
  const Kernel kernel = gaussian();
  for (size_t i = 0; i < in.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) / step % length;
    float sum = 0;
    for (int64_t k = -kBlurRadius; k <= kBlurRadius; ++k)
      sum += kernel[static_cast<size_t>(k + kBlurRadius)] *
             in[i + static_cast<size_t>((std::clamp<int64_t>(at + k, 0, length - 1) - at) * step)];
    out[i] = sum;
  }
}

void blur(Image& image) {
  std::vector<float> values(image.pixels.begin(), image.pixels.end()), rows(values.size());
  blur_lines(values, rows, image.width, image.channels);
  blur_lines(rows, values, image.height, image.width * image.channels);
  std::transform(values.begin(), values.end(), image.pixels.begin(), to_byte);
}

}  // namespace

std::string_view to_string(Corruption kind) {
  switch (kind) {
    case Corruption::kDark:
      return "dark";
    case Corruption::kNoise:
      return "noise";
    case Corruption::kBlur:
      return "blur";
  }
  return "";
}

Image corrupt(const Image& image, Corruption kind, uint64_t seed) {
  Image out = image;
  Random random(seed);
  switch (kind) {
    case Corruption::kDark:
      for (uint8_t& pixel : out.pixels) pixel = to_byte(pixel * kDarkening);
      break;
    case Corruption::kNoise:
      for (uint8_t& pixel : out.pixels) pixel = to_byte(pixel + kNoiseShare * 255 * random.normal());
      break;
    case Corruption::kBlur:
      blur(out);
      break;
  }
  return out;
}

Tensor add_noise(const Tensor& array, uint64_t seed) {
  std::vector<double> values = to_doubles(array);
  if (values.empty()) return array;
  const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
  const double sigma = kNoiseShare * (*highest - *lowest);
  Random random(seed);
  for (double& value : values) {
    value += sigma * random.normal();
    if (!is_float(array.dtype())) value = std::nearbyint(value);
  }
  return from_doubles(array.dtype(), array.dims(), values);
}

}  // namespace slipway
