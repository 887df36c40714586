// From a picture or an array to a model's input. Pictures: grey if asked, resize, centre crop (rounding as
// torchvision's), then one table per channel that maps the 256 byte values to the model's numbers, written straight
// into the layout. (x·scale − mean) / std is computed in double and rounded once.
#include "data/preprocess.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace slipway {
namespace {

double at_channel(const std::vector<double>& values, int64_t channel, double fallback) {
  if (values.empty()) return fallback;
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

DType output_dtype(const Preprocess& how) {
  const DType dtype = parse_dtype(how.dtype);
  if (dtype == DType::kUndefined || bits_of(dtype) == 0)
    fail(ErrorCode::kInvalidArgument, "There is no such element type; use f32, u8 or i8: '{}'", how.dtype);
  return dtype;
}

void check_channels(const std::vector<double>& values, const char* key, int64_t channels) {
  const auto count = static_cast<int64_t>(values.size());
  if (count > 1 && count != channels)
    fail(ErrorCode::kInvalidArgument, "The pre-processing needs one {} per channel or one for all: {} for {} channels",
         key, count, channels);
}

void check_numbers(const Preprocess& how, int64_t channels) {
  check_channels(how.mean, "mean", channels);
  check_channels(how.std, "std", channels);
  if (std::count(how.std.begin(), how.std.end(), 0.0) > 0)
    fail(ErrorCode::kInvalidArgument, "The pre-processing's std must not be 0; leave the key out for 1");
  if (how.layout != "nchw" && how.layout != "nhwc")
    fail(ErrorCode::kInvalidArgument, "There is no such layout; use nchw or nhwc: '{}'", how.layout);
}

double normalise(const Preprocess& how, int64_t channel, double value) {
  return (value * how.scale - at_channel(how.mean, channel, 0)) / at_channel(how.std, channel, 1);
}

std::vector<double> rounded_for(DType dtype, std::vector<double> values) {
  if (is_integer(dtype))
    for (double& v : values) v = std::nearbyint(v);
  return values;
}

struct Window {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

Image resized(const Preprocess& how, const Image& image) {
  if (how.resize_shorter > 0) {
    const int64_t shorter = std::min(image.height, image.width), longer = std::max(image.height, image.width);
    if (shorter == how.resize_shorter) return image;
    const int64_t other = how.resize_shorter * longer / shorter;
    return image.width <= image.height ? resize_image(image, other, how.resize_shorter, how.interpolation)
                                       : resize_image(image, how.resize_shorter, other, how.interpolation);
  }
  if (how.resize_height > 0) return resize_image(image, how.resize_height, how.resize_width, how.interpolation);
  return image;
}

Window centre(const Preprocess& how, const Image& image) {
  if (how.crop_height == 0) return {0, 0, image.height, image.width};
  if (how.crop_height > image.height || how.crop_width > image.width)
    fail(ErrorCode::kInvalidArgument,
         "The crop is larger than the picture; add or enlarge `resize`: {}x{} out of {}x{}", how.crop_width,
         how.crop_height, image.width, image.height);
  const auto half = [](int64_t room) { return static_cast<int64_t>(std::nearbyint(static_cast<double>(room) / 2)); };
  return {half(image.height - how.crop_height), half(image.width - how.crop_width), how.crop_height, how.crop_width};
}

/// For channel c of the output: the channel of the picture that it comes from.
int64_t source_channel(const Preprocess& how, const Image& image, int64_t channel) {
  if (image.channels == 1) return 0;
  return how.color == "bgr" ? 2 - channel : channel;
}

template <typename T>
void write_pixels(const Preprocess& how, const Image& image, const Window& w, int64_t channels, const T* table,
                  T* out) {
  const bool planar = how.layout == "nchw";
  const int64_t pixel_step = planar ? 1 : channels, channel_step = planar ? w.height * w.width : 1;
  for (int64_t c = 0; c < channels; ++c) {
    const T* map = table + c * 256;
    T* to = out + c * channel_step;
    for (int64_t y = 0; y < w.height; ++y) {
      const uint8_t* from =
          image.pixels.data() + ((w.top + y) * image.width + w.left) * image.channels + source_channel(how, image, c);
      for (int64_t x = 0; x < w.width; ++x, to += pixel_step) *to = map[from[x * image.channels]];
    }
  }
}

}  // namespace

Tensor preprocess_image(const Preprocess& how, const Image& image) {
  const int64_t channels = how.color == "gray" ? 1 : 3;
  if (channels == 3 && how.color != "rgb" && how.color != "bgr")
    fail(ErrorCode::kInvalidArgument, "There is no such colour order; use rgb, bgr or gray: '{}'", how.color);
  check_numbers(how, channels);
  Image gray;
  if (channels == 1 && image.channels == 3) gray = to_gray(image);
  const Image& source = gray.pixels.empty() ? image : gray;
  const bool resizes = how.resize_shorter > 0 || how.resize_height > 0;
  const Image small = resizes ? resized(how, source) : Image{};
  const Image& picture = resizes ? small : source;
  const Window window = centre(how, picture);

  std::vector<double> values(static_cast<size_t>(channels) * 256);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = normalise(how, static_cast<int64_t>(i / 256), static_cast<double>(i % 256));
  const DType dtype = output_dtype(how);
  const Tensor table = from_doubles(dtype, {channels, 256}, rounded_for(dtype, std::move(values)));
  Tensor out(dtype, how.layout == "nchw" ? Dims{channels, window.height, window.width}
                                         : Dims{window.height, window.width, channels});
  const auto run = [&]<typename T>(T) {
    write_pixels(how, picture, window, channels, reinterpret_cast<const T*>(table.raw()),
                 reinterpret_cast<T*>(out.mutable_raw()));
  };
  switch (bits_of(dtype)) {
    case 8:
      run(uint8_t{});
      break;
    case 16:
      run(uint16_t{});
      break;
    case 32:
      run(uint32_t{});
      break;
    case 64:
      run(uint64_t{});
      break;
    default:
      fail(ErrorCode::kUnsupported, "Pictures can't be given to a model in this element type: {}", how.dtype);
  }
  return out;
}

Tensor preprocess_array(const Preprocess& how, const Tensor& array) {
  if (how.dtype.empty() && how.keeps_values()) return array;
  const DType dtype = output_dtype(how);
  const bool first = how.layout == "nchw";
  const int64_t channels = array.rank() == 0 ? 1 : first ? array.dims().front() : array.dims().back();
  check_numbers(how, channels);
  if (how.keeps_values()) return cast(array, dtype);
  std::vector<double> values = to_doubles(array);
  const auto count = static_cast<int64_t>(values.size());
  const int64_t inner = channels == 0 ? 1 : std::max<int64_t>(count / channels, 1);
  for (int64_t i = 0; i < count; ++i)
    values[static_cast<size_t>(i)] =
        normalise(how, first ? i / inner : i % std::max<int64_t>(channels, 1), values[static_cast<size_t>(i)]);
  return from_doubles(dtype, array.dims(), rounded_for(dtype, std::move(values)));
}

std::vector<float> black_pixel(const Preprocess& how, int64_t channels) {
  check_numbers(how, channels);
  std::vector<double> values;
  for (int64_t c = 0; c < channels; ++c) values.push_back(normalise(how, c, 0));
  values = rounded_for(output_dtype(how), std::move(values));
  return {values.begin(), values.end()};
}

}  // namespace slipway
