#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/sample_source.h"

namespace slipway {

/// A sample that can't be read, and why: a picture that is cut off, say.
struct BadSample {
  int64_t index;
  std::string reason;  ///< names the file
};

/// Reads all samples of these indices, with as many threads as the machine has; returns the bad ones in their order.
std::vector<BadSample> find_bad_samples(const SampleSource& source, std::span<const int64_t> indices);

/// "2 of the 100 test samples can't be read: …; …": the first ten, and how many more there are.
std::string list_bad_samples(std::span<const BadSample> bad, size_t of, std::string_view split);

}  // namespace slipway
