#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "serve/model_version.h"
#include "serve/server.h"

namespace slipway {

/// The combinations of input shapes (by input) that a program prepared untimed and computed at for so long that timing
/// their candidates pays, the costliest first; the few that are timed in one go.
std::vector<std::vector<Dims>> shapes_worth_timing(const Program& program, double seconds);

/// A thread that times in the background what versions compute at often, one version after the other, by time_shapes().
class ShapeTimer {
 public:
  using Versions = std::function<std::vector<std::shared_ptr<ModelVersion>>()>;
  /// `versions` are those in service.
  ShapeTimer(const ServerOptions& options, Versions versions);
  /// Ends what it is at.
  ~ShapeTimer();

 private:
  void run();
  void look();
  bool stopping() const;

  const ServerOptions& options_;
  const Versions versions_;
  std::set<uint64_t> refused_;  ///< generations that are not tried again
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace slipway
