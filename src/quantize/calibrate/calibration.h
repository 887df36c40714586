#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "quantize/calibrate/histogram.h"

namespace slipway {

/// What was observed of a model's tensors on a data set. It names no method and no grid: any profile can be quantised
/// from it, and calibrations of disjoint shards of the samples merge exactly.
struct Calibration {
  int64_t samples = 0;
  std::string data_digest;                                  ///< of the data set; empty when unknown
  std::map<std::string, TensorStats, std::less<>> tensors;  ///< by value name
  bool operator==(const Calibration&) const = default;

  /// Fails with kInvalidArgument when the tensors or the data digest differ.
  void merge(const Calibration& other);
  /// Bytes held; the same whatever the number of samples.
  size_t bytes() const;
};

/// JSON, whole or not at all. Reading fails with kInvalidArgument naming the file and tensor, kNotFound, kIo.
void save_calibration(const Calibration& calibration, const std::string& path);
Calibration load_calibration(const std::string& path);

}  // namespace slipway
