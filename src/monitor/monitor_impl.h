#pragma once
// What monitor.cc fills and status.cc shows.
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <utility>

#include "monitor/alarms.h"
#include "monitor/monitor.h"
#include "monitor/scores.h"
#include "monitor/series.h"
#include "monitor/webhook.h"

namespace slipway {

/// What the computing threads add to, of one version as it was loaded.
struct Watched {
  std::string model;
  int64_t version = 0;
  ScoreShape shape;
  std::string output;
  int absent_ticks = 0;
  std::array<LiveScores, kVariantCount> scores;
};

/// The process, each second.
struct ProcessPoint {
  int64_t t_ms = 0;
  uint64_t resident_bytes = 0;
  double cpu_cores = 0;
  int64_t in_flight = 0;
};

struct Monitor::Impl {
  Impl(Server& s, MonitorOptions o);

  std::shared_ptr<Watched> watched(const ModelVersion& version);
  Tally tally(const ModelVersion& version);
  void tick();
  void run();
  void tell(const std::vector<AlarmEvent>& events, int64_t now_ms);
  Track fresh_track() const { return {options.history_s, options.alarms.window_s}; }
  int64_t epoch_ms(int64_t now_ns) const { return start_ms + (now_ns - start_ns) / 1'000'000; }

  Server& server;
  MonitorOptions options;
  int64_t start_ns = 0, start_ms = 0;

  std::shared_mutex watched_mutex;
  std::map<const ModelVersion*, std::shared_ptr<Watched>> watched_versions;

  /// One loaded version; gone when it is unloaded.
  struct VersionTrack {
    std::weak_ptr<ModelVersion> object;
    Track track;
    Tally last;
  };
  mutable std::mutex mutex;  ///< of everything below
  std::map<const ModelVersion*, VersionTrack> versions;
  std::map<std::string, Track> models;
  Track all;
  std::deque<ProcessPoint> process;
  ProcessFacts facts;
  int64_t last_tick_ns = 0, last_repeat_ms = 0;
  Alarms alarms;
  std::deque<std::pair<int64_t, AlarmEvent>> alarm_log;  ///< the latest changes
  std::optional<Webhook> webhook;

  std::mutex stop_mutex;
  std::condition_variable stop;
  bool stopping = false;
  std::thread thread;
};

}  // namespace slipway
