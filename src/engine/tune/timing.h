#pragma once
#include <map>
#include <string>

#include "engine/lower/lower.h"

namespace slipway {

/// Measured times of candidates by signature (operator, attributes, shapes, layouts, threads, CPU, oneDNN), kept in a
/// file.
class TimingCache {
 public:
  /// Reads the file when there is one; a damaged file is ignored. Empty path: in memory only.
  explicit TimingCache(std::string path);
  /// Microseconds; −signal of a candidate that crashes.
  const double* find(const std::string& key) const;
  void add(const std::string& key, double time_us);
  /// Writes new entries; silently nothing when the folder can't be written (a cache is no result).
  void save() const;

 private:
  std::string path_;
  std::map<std::string, double> times_;
  bool changed_ = false;
};

std::string timing_key(const LowerContext& context, const Candidate& candidate);

/// Microseconds of one run: the fastest of several on random data, with the candidate's own packed weights. The kernel
/// runs in this process: see trial.h.
double time_candidate(const LowerContext& build, const LowerContext& step, const Candidate& candidate);
/// Microseconds of changing the layout of such a value.
double time_layout_change(Layout from, Layout to, DType dtype, const Dims& dims, int threads);

}  // namespace slipway
