#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/histogram.h"
#include "serve/protocol.h"
#include "serve/tls.h"

namespace slipway {

/// What one load sends: the model's inputs of one request. For /predict, the encoded picture alone.
struct LoadSample {
  std::vector<WireTensor> inputs;
  std::string picture;
  std::string id;  ///< sent along; may be empty
  std::shared_ptr<const void> owner;
  int64_t at_us = -1;  ///< of a replay: when it is due, since the start; ascending
};

struct LoadOptions {
  std::string url;             ///< http://host:port or grpc://host:port; https:// and grpcs:// with TLS
  TlsFiles tls;                ///< of those, and of admin_url
  std::string model, version;  ///< empty version: the live one
  bool predict = false;        ///< POST /predict instead of infer
  int concurrency = 1;         ///< closed loop; the most requests at once of an open one
  double rate = 0;             ///< requests a second, open loop; 0: closed loop, or a replay when the samples are due
  bool poisson = false;        ///< exponential gaps instead of equal ones
  double seconds = 10, warm_up_seconds = 1;
  double timeout_seconds = 10;  ///< of one request
  int64_t max_requests = 0;     ///< 0: by time alone; without those of the warm-up
  std::string admin_url;        ///< of the server, for its CPU and memory; empty: not shown
  uint64_t seed = 1;
  bool quiet = false;
  /// Called with each good response's first output as floats (row of one request), for A/B comparison; may be empty.
  std::function<void(size_t sample, std::span<const float> scores, int64_t version)> on_scores;
};

struct LoadResult {
  int64_t requests = 0;                   ///< that ended, well or not; those that went well are latency_us.count()
  int64_t late_starts = 0;                ///< sent over 1 ms after they were due
  int64_t unsent = 0;                     ///< due, but the end came first
  std::map<std::string, int64_t> errors;  ///< by kind: "503", "UNAVAILABLE", "connect", "closed", "timeout", …
  std::map<std::string, std::string> error_texts;  ///< by kind: what the first one said
  double seconds = 0;                              ///< of the measured window
  double throughput_per_s = 0, offered_per_s = 0;  ///< good responses; requests due (open loop) or sent (closed)
  Histogram latency_us;                            ///< from the intended send time (open loop) or the send (closed)
  Histogram service_us;                            ///< from the actual send
  double max_lateness_ms = 0;
  bool kept_up = true;  ///< the generator sent at least 99 % of the requests within 10 ms of when they were due
  /// point_seconds of time, up to t_s; server_cpu in cores and server_rss_mb in MiB, 0 where unknown.
  struct Point {
    double t_s = 0, throughput = 0, p50_ms = 0, p99_ms = 0, errors = 0, server_cpu = 0, server_rss_mb = 0;
  };
  double point_seconds = 1;  ///< more where an hour and more was asked for
  std::vector<Point> series;
  bool interrupted = false;
  std::string model;  ///< that was asked

  int64_t error_count() const;
  double error_rate() const;  ///< of `requests`; 0 without any
};

/// Fails with kInvalidArgument (URL, options), kIo when the server can't be reached at all. Ctrl-C ends it early with
/// what was measured so far.
LoadResult run_load(const LoadOptions& options, const std::vector<LoadSample>& samples);

}  // namespace slipway
