// Resampling of 8-bit pictures with the results of Pillow's Image.resize (behaviour: Pillow handbook, "Filters").
// Each output pixel is a convolution of the input with a filter stretched by the scale when shrinking (antialiasing);
// the taps are normalised in double, rounded to 22 fractional bits, and applied horizontally, then vertically, with the
// result rounded and clipped to 8 bits after each pass. A pass that changes no size is skipped. Nearest takes the input
// pixel under the output pixel's centre, stepping in double as Pillow does.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "data/image.h"

namespace slipway {
namespace {

constexpr int kFractionBits = 32 - 8 - 2;

double sinc(double x) { return x == 0 ? 1 : std::sin(x * std::numbers::pi) / (x * std::numbers::pi); }

double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }
double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }
/// With single-precision constants, as Pillow has them.
double hamming(double x) {
  x = std::abs(x);
  return x >= 1 ? 0 : sinc(x) * (0.54f + 0.46f * std::cos(x * std::numbers::pi));
}
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

struct Filter {
  std::string_view name;
  double (*weight)(double);
  double support;
};
constexpr std::array kFilters = {Filter{"bilinear", triangle, 1}, Filter{"bicubic", cubic, 2},
                                 Filter{"lanczos", lanczos, 3}, Filter{"hamming", hamming, 1}, Filter{"box", box, 0.5}};

/// For each output position the first input position and its taps, `stride` apart.
struct Taps {
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;
  int64_t stride = 0;
};

Taps make_taps(int64_t in, int64_t out, const Filter& filter) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch, inverse = 1.0 / stretch;
  Taps taps;
  taps.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(static_cast<size_t>(taps.stride * out));
  std::vector<double> raw(static_cast<size_t>(taps.stride));
  for (int64_t o = 0; o < out; ++o) {
    const double center = (static_cast<double>(o) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), in) - first;
    double sum = 0;
    for (int64_t k = 0; k < count; ++k)
      sum += raw[static_cast<size_t>(k)] = filter.weight((static_cast<double>(k + first) - center + 0.5) * inverse);
    for (int64_t k = 0; k < count; ++k) {
      const double weight = sum == 0 ? raw[static_cast<size_t>(k)] : raw[static_cast<size_t>(k)] / sum;
      taps.weights[static_cast<size_t>(o * taps.stride + k)] =
          static_cast<int32_t>(weight * (1 << kFractionBits) + (weight < 0 ? -0.5 : 0.5));
    }
    taps.first.push_back(first);
    taps.count.push_back(count);
  }
  return taps;
}

uint8_t round_and_clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

/// Convolves rows of pixels: `channels` values a pixel.
template <int channels>
void resample_rows(const Image& in, Image& out, const Taps& taps) {
  for (int64_t y = 0; y < in.height; ++y) {
    const uint8_t* row = in.pixels.data() + y * in.width * channels;
    uint8_t* to = out.pixels.data() + y * out.width * channels;
    for (int64_t x = 0; x < out.width; ++x) {
      const size_t i = static_cast<size_t>(x);
      const int32_t* weights = taps.weights.data() + x * taps.stride;
      const uint8_t* from = row + taps.first[i] * channels;
      std::array<int32_t, channels> sums;
      sums.fill(1 << (kFractionBits - 1));
      for (int64_t k = 0; k < taps.count[i]; ++k)
        for (int c = 0; c < channels; ++c) sums[static_cast<size_t>(c)] += from[k * channels + c] * weights[k];
      for (int c = 0; c < channels; ++c) *to++ = round_and_clip(sums[static_cast<size_t>(c)]);
    }
  }
}

void resample_columns(const Image& in, Image& out, const Taps& taps) {
  const int64_t row_bytes = in.width * in.channels;
  std::vector<int32_t> sums(static_cast<size_t>(row_bytes));
  for (int64_t y = 0; y < out.height; ++y) {
    const size_t i = static_cast<size_t>(y);
    std::fill(sums.begin(), sums.end(), 1 << (kFractionBits - 1));
    for (int64_t k = 0; k < taps.count[i]; ++k) {
      const int32_t weight = taps.weights[static_cast<size_t>(y * taps.stride + k)];
      const uint8_t* from = in.pixels.data() + (taps.first[i] + k) * row_bytes;
      for (int64_t b = 0; b < row_bytes; ++b) sums[static_cast<size_t>(b)] += from[b] * weight;
    }
    uint8_t* to = out.pixels.data() + y * row_bytes;
    for (int64_t b = 0; b < row_bytes; ++b) to[b] = round_and_clip(sums[static_cast<size_t>(b)]);
  }
}

/// The input position under each output position's centre.
std::vector<int64_t> nearest_positions(int64_t in, int64_t out) {
  const double step = static_cast<double>(in) / static_cast<double>(out);
  std::vector<int64_t> positions;
  double at = step * 0.5;
  for (int64_t o = 0; o < out; ++o, at += step) positions.push_back(std::min(static_cast<int64_t>(at), in - 1));
  return positions;
}

Image blank(int64_t height, int64_t width, int64_t channels) {
  return {height, width, channels, std::vector<uint8_t>(static_cast<size_t>(height * width * channels))};
}

Image resize_nearest(const Image& image, int64_t height, int64_t width) {
  const auto rows = nearest_positions(image.height, height), columns = nearest_positions(image.width, width);
  Image out = blank(height, width, image.channels);
  uint8_t* to = out.pixels.data();
  for (const int64_t y : rows)
    for (const int64_t x : columns)
      to = std::copy_n(image.pixels.data() + (y * image.width + x) * image.channels, image.channels, to);
  return out;
}

}  // namespace

bool is_resize_filter(std::string_view name) {
  return name == "nearest" || std::any_of(kFilters.begin(), kFilters.end(), [&](auto& f) { return f.name == name; });
}

Image resize_image(const Image& image, int64_t height, int64_t width, std::string_view filter_name) {
  SLIPWAY_CHECK(image.height > 0 && image.width > 0 && (image.channels == 1 || image.channels == 3));
  if (height < 1 || width < 1 || height > kMaxImageSide || width > kMaxImageSide || height * width > kMaxImagePixels)
    fail(ErrorCode::kInvalidArgument, "A picture can't be resized to this; give sides from 1 to {}: {}x{}",
         kMaxImageSide, width, height);
  if (height == image.height && width == image.width) return image;
  if (filter_name == "nearest") return resize_nearest(image, height, width);
  const auto filter = std::find_if(kFilters.begin(), kFilters.end(), [&](auto& f) { return f.name == filter_name; });
  if (filter == kFilters.end())
    fail(ErrorCode::kInvalidArgument, "There is no such interpolation; use bilinear or bicubic: '{}'", filter_name);
  Image wide;
  if (width != image.width) {
    wide = blank(image.height, width, image.channels);
    const Taps taps = make_taps(image.width, width, *filter);
    image.channels == 1 ? resample_rows<1>(image, wide, taps) : resample_rows<3>(image, wide, taps);
  }
  const Image& source = width != image.width ? wide : image;
  if (height == image.height) return wide;
  Image out = blank(height, width, image.channels);
  resample_columns(source, out, make_taps(image.height, height, *filter));
  return out;
}

}  // namespace slipway
