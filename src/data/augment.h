#pragma once
#include <cstdint>
#include <span>

#include "base/random.h"
#include "data/preprocess.h"
#include "model/shape.h"

namespace slipway {

inline constexpr int64_t kMaxAugmentCrop = 1024;

/// What is done at random to a picture each time that it is trained on.
struct Augment {
  int64_t crop = 0;   ///< shifted by up to so many pixels each way; what comes in is black
  bool flip = false;  ///< mirrored left to right half the time
  bool operator==(const Augment&) const = default;
};

/// One pre-processed picture of `dims` ([C,H,W] or [H,W,C], as `how` says, without the batch axis): padded by `crop`
/// with what a black pixel becomes, cropped at random to its size (He et al., "Deep residual learning for image
/// recognition", CVPR 2016, section 4.2), mirrored with probability 1/2. `from` and `to` must not overlap. Draws three
/// numbers from `random`, whatever the options. Fails with kInvalidArgument where dims are not a picture's of that
/// layout and colour, the spans' sizes do not fit them, or the crop reaches a side.
void augment_sample(const Augment& options, const Preprocess& how, const Dims& dims, std::span<const float> from,
                    Random& random, std::span<float> to);

}  // namespace slipway
