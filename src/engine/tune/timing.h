#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "engine/lower/lower.h"

namespace slipway {

/// What a time is kept under.
struct TimingKey {
  std::string digest;  ///< of operator, attributes, shapes, layouts, implementation, threads, CPU, oneDNN
  std::string family;  ///< the same, whatever the sizes of what is no constant
  double work = 0;     ///< floating-point operations and bytes
};

/// Measured times of candidates, kept in a file.
class TimingCache {
 public:
  /// Reads the file when there is one; a damaged file is ignored. Empty path: in memory only.
  explicit TimingCache(const std::string& path);
  bool empty() const { return times_->by_digest.empty(); }
  /// Microseconds; −signal of a candidate that crashes.
  std::optional<double> find(const std::string& digest) const;
  /// Microseconds: as measured, else as the one of its family whose work is nearest (by ratio) took, by the work.
  std::optional<double> estimate(const TimingKey& key) const;
  void add(const TimingKey& key, double time_us);
  /// Adds new entries to the file; silently nothing when the folder can't be written (a cache is no result).
  void save();

 private:
  struct Time {
    double us;
    std::string family;
    double work;
  };
  struct Times {
    std::map<std::string, Time> by_digest;
    std::map<std::string, std::map<double, double>> by_family;  ///< microseconds by work, crashes left out
    void add(const std::string& digest, const Time& time);
  };
  static std::shared_ptr<const Times> read(const std::string& path);

  std::string path_;
  std::shared_ptr<const Times> times_;
  std::map<std::string, Time> added_;
};

TimingKey timing_key(const LowerContext& context, const Candidate& candidate);

/// Microseconds of one run: the fastest of several on random data, with the candidate's own packed weights. The kernel
/// runs in this process: see trial.h.
double time_candidate(const LowerContext& build, const LowerContext& step, const Candidate& candidate);
/// Microseconds of changing the layout of such a value.
double time_layout_change(Layout from, Layout to, DType dtype, const Dims& dims, int threads);

}  // namespace slipway
