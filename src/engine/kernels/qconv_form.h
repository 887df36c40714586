#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "engine/kernels/qconv.h"
#include "engine/kernels/qconv_strip.h"

/// What the tactics built on strips share: packing, the padded window, the split over threads.
namespace slipway {

/// How activations reach the strip: a step is 4 bytes, so 4 channels as u8 or 2 as s16.
enum class QConvInput : uint8_t {
  kBytes,  ///< u8; s8 that may be negative is moved up by 128
  kWide,   ///< s16, x − zero_point
};

struct QConvForm {
  const char* name;
  QConvInput input;
  int lanes;  ///< output channels per vector; a block is one or two vectors
  bool depthwise;
  bool sums_in_16_bits;  ///< groups must be proved not to overflow
  void (*strip)(const QStrip*) noexcept;
};

/// The part of the input that a run of output rows needs, in the form that strips read.
struct QConvWindow {
  bool flip = false;     ///< bytes are moved by 128
  bool direct = false;   ///< the input serves as it is, nothing is copied
  int64_t element = 1;   ///< bytes
  int64_t pitch = 0;     ///< elements per row
  int64_t columns = 0;   ///< pixels per row that are filled
  int64_t rows_out = 1;  ///< at most so many output rows at a time
  int64_t rows_in = 1;
  int64_t bytes = 0;        ///< 0 if direct
  int64_t table_bytes = 0;  ///< of the pixels' offsets
};

/// A 1x1 convolution of stride 1 without padding, a Gemm among them, has all its images stacked as rows of one.
QConvShape flatten_pointwise(const QConvShape& shape);
QConvWindow qconv_window(const QConvForm& form, const QConvSpec& spec);

std::string reject_strips(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights);
QConvPacked pack_strips(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights);
std::string check_strips(const QConvForm& form, const QConvSpec& spec, std::span<const std::byte> packed);
size_t strips_scratch_bytes(const QConvForm& form, const QConvSpec& spec, int threads);
void run_strips(const QConvForm& form, const QConvSpec& spec, const std::byte* packed, const void* x,
                const void* residual, void* y, std::byte* scratch, int threads) noexcept;

/// The packed form: a header, then the blocks, then what they point at (offsets from the header).
struct QConvHeader {
  uint64_t digest = 0;  ///< of the form's name and the spec
  uint64_t bytes = 0;
  uint64_t blocks = 0;
  uint64_t reserved[5] = {};
};

struct QConvBlock {
  uint64_t weights = 0, steps = 0, init = 0, multiplier = 0;
  uint64_t addend = 0;  ///< 0: none
  int32_t step_count = 0, vectors = 0;
  int32_t first_channel = 0, channels = 0;
  int32_t groups[kStripMaxGroup + 1] = {};
};

uint64_t qconv_digest(const QConvForm& form, const QConvSpec& spec);
QStripEpilogue strip_epilogue(const QConvEpilogue& epilogue);

/// The reference tactic's functions.
extern const QConvTactic kQConvReference;

}  // namespace slipway
