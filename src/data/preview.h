#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace slipway {

/// What an input of the model looks like after the pre-processing.
struct InputStatistics {
  int64_t samples = 0, values = 0, not_finite = 0;
  double min = 0, max = 0, mean = 0, std = 0;  ///< of the finite values
  Dims dims;                                   ///< of the first sample
  int64_t sizes = 0;                           ///< different shapes among the samples
  /// A likely mistake in words, e.g. values up to 255 for a float input; empty when nothing looks odd.
  std::string remark;
};
InputStatistics input_statistics(const Dataset& data, Split split, int64_t count, size_t input = 0);

/// What there is to warn of before a model has run: Dataset::warnings() and the remark on the input's range. One list
/// for `data preview`, verification and `ship`.
std::vector<std::string> input_warnings(const Dataset& data, Split split);

inline constexpr int64_t kMaxPreviewSamples = 400;

/// `count` samples, evenly taken from the split, as one HTML page that needs no other file: pictures with labels, the
/// inputs' range, the classes' counts. `predictions`: the model's class for sample preview_index(…, i), or empty.
/// Fails as Dataset::image and Dataset::input do.
std::string contact_sheet_html(const Dataset& data, Split split, int64_t count,
                               std::span<const int64_t> predictions = {});
/// The same without pictures, for a terminal; lists the first `rows` of those `count` samples.
std::string contact_sheet_text(const Dataset& data, Split split, int64_t count,
                               std::span<const int64_t> predictions = {}, size_t rows = 10);

/// The index in the split of the i-th of `count` samples shown.
int64_t preview_index(const Dataset& data, Split split, int64_t count, int64_t i);
/// "7 (Sneaker)", "7", or "-" for −1.
std::string class_label(const Dataset& data, int64_t label);

}  // namespace slipway
