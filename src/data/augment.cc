// Random shift and mirror of a picture, row by row: of each row of the result, the pixels that the shift leaves come
// from one run of the original's, copied straight or backwards; those before and after are black.
#include "data/augment.h"

#include <algorithm>

#include "base/error.h"

namespace slipway {
namespace {

/// A plane of height × width pixels of `step` floats.
struct Plane {
  int64_t height, width, step;
};

struct Move {
  int64_t down, right;  ///< where the result's first pixel lies in the original
  bool mirror;
};

float* fill(float* to, int64_t pixels, const float* black, int64_t step) {
  if (step == 1) return std::fill_n(to, pixels, *black);
  for (int64_t i = 0; i < pixels; ++i, to += step) std::copy_n(black, step, to);
  return to;
}

float* copy_backwards(const float* from, int64_t pixels, int64_t step, float* to) {
  if (step == 1) return std::reverse_copy(from, from + pixels, to);
  for (int64_t i = pixels; i-- > 0; to += step) std::copy_n(from + i * step, step, to);
  return to;
}

void move_plane(const Plane& plane, const Move& move, const float* black, const float* from, float* to) {
  const auto [height, width, step] = plane;
  const int64_t kept = width - std::abs(move.right);
  const int64_t before = std::max<int64_t>(-move.right, 0), after = width - kept - before;
  for (int64_t y = 0; y < height; ++y) {
    const int64_t source_y = y + move.down;
    if (source_y < 0 || source_y >= height) {
      to = fill(to, width, black, step);
      continue;
    }
    const float* row = from + (source_y * width + std::max<int64_t>(move.right, 0)) * step;
    to = fill(to, move.mirror ? after : before, black, step);
    to = move.mirror ? copy_backwards(row, kept, step, to) : std::copy_n(row, kept * step, to);
    to = fill(to, move.mirror ? before : after, black, step);
  }
}

}  // namespace

void augment_sample(const Augment& options, const Preprocess& how, const Dims& dims, std::span<const float> from,
                    Random& random, std::span<float> to) {
  const bool planar = how.layout == "nchw";
  const int64_t channels = how.color == "gray" ? 1 : 3;
  if (dims.size() != 3 || *std::min_element(dims.begin(), dims.end()) < 1 || dims[planar ? 0 : 2] != channels)
    fail(ErrorCode::kInvalidArgument,
         "Only pictures can be augmented; leave out `augment`, or correct `layout` or `color`: {} is no {} picture of "
         "{} channels",
         to_string(dims), how.layout, channels);
  const int64_t height = dims[planar ? 1 : 0], width = dims[planar ? 2 : 1];
  if (options.crop < 0 || options.crop >= std::min(height, width))
    fail(ErrorCode::kInvalidArgument,
         "The augmentation's crop must be from 0 to below the picture's shorter side; lower it: {} for {}x{}",
         options.crop, width, height);
  const auto elements = static_cast<size_t>(element_count(dims));
  if (from.size() != elements || to.size() != elements)
    fail(ErrorCode::kInvalidArgument, "A sample to augment holds other than its dims' values: {} and {} for {}",
         from.size(), to.size(), to_string(dims));
  const std::vector<float> black = black_pixel(how, channels);
  const auto shift = [&] {
    return static_cast<int64_t>(random.below(2 * static_cast<uint64_t>(options.crop) + 1)) - options.crop;
  };
  Move move{};
  move.down = shift();
  move.right = shift();
  move.mirror = random.below(2) == 1 && options.flip;
  if (!planar) return move_plane({height, width, channels}, move, black.data(), from.data(), to.data());
  for (int64_t c = 0; c < channels; ++c)
    move_plane({height, width, 1}, move, &black[static_cast<size_t>(c)], from.data() + c * height * width,
               to.data() + c * height * width);
}

}  // namespace slipway
