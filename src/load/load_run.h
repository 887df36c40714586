#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "load/load.h"
#include "load/pacer.h"
#include "load/server_watch.h"

namespace slipway {

/// What came of one request.
struct LoadOutcome {
  std::string_view error;  ///< kind; empty: it went well
  std::string_view text;   ///< of the error
  std::span<const float> scores;
  int64_t version = 0;
};

/// The bookkeeping of one load, without transport and with the time handed in (monotonic nanoseconds): says which
/// request is due, and counts what became of it. Not thread-safe.
class LoadRun {
 public:
  /// A request under way.
  struct Ticket {
    size_t sample = 0;
    int64_t due_ns = 0, sent_ns = 0;
    bool counted = false;  ///< not of the warm-up
  };

  /// The samples outlive it. Starts at `now`, with the warm-up.
  LoadRun(const LoadOptions& options, const std::vector<LoadSample>& samples, int64_t now,
          std::function<ServerFacts()> server = {});
  /// The next request, if one is due.
  std::optional<Ticket> take(int64_t now);
  void finish(const Ticket& ticket, int64_t now, const LoadOutcome& outcome);
  /// To be called at wake_ns() and as often as one likes: closes points of the series, shows progress.
  void tick(int64_t now);
  /// When there is next something to do: a tick, or a request that is due, if one `can_send`.
  int64_t wake_ns(bool can_send) const;
  /// No more requests will be due.
  bool over(int64_t now) const;
  void interrupt(int64_t now);
  /// After the last finish().
  LoadResult result(int64_t now);

 private:
  bool open() const { return pacer_.has_value() || replay_; }
  void advance();
  void close_point(int64_t end_ns);
  void show(const LoadResult::Point& point) const;

  const LoadOptions& options_;
  const std::vector<LoadSample>& samples_;
  std::function<ServerFacts()> server_;
  std::optional<Pacer> pacer_;
  bool replay_;
  int64_t start_ns_, measure_ns_, end_ns_;  ///< of the warm-up, of the measurement; and where that ends
  int64_t next_due_ns_ = 0, taken_ = 0, counted_ = 0, very_late_ = 0, max_lateness_ns_ = 0, last_finish_ns_;
  int64_t done_in_window_ = 0;
  int64_t point_ns_, point_end_ns_, point_good_ = 0, point_errors_ = 0;
  Histogram point_us_;
  ServerFacts facts_;
  LoadResult result_;
  bool terminal_;
};

}  // namespace slipway
