#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "load/load.h"
#include "load/soak.h"

namespace slipway {

/// What a load must reach; what is absent is not judged.
struct LoadThresholds {
  std::optional<double> max_p99_ms, max_error_rate, min_throughput_per_s;
};

struct LoadCheck {
  std::string title;  ///< "p99 latency"
  double figure = 0, threshold = 0;
  std::string bound, unit;  ///< "at most", "ms"
  bool met = false;
};

/// One load at one concurrency or rate.
struct LoadLevel {
  int concurrency = 1;
  double rate = 0;  ///< 0: closed loop
  bool poisson = false, replay = false;
  LoadResult result;
};

struct LoadReport {
  std::string url, samples, date;  ///< samples: "1000 samples of data.yaml"
  bool predict = false;
  std::vector<LoadLevel> levels;
  std::vector<LoadCheck> checks;  ///< of the last level
  std::optional<SoakResult> soak;
  /// A check was missed, the soak failed, or not one response of the last level was good.
  bool failed() const;
};

std::vector<LoadCheck> check_load(const LoadResult& result, const LoadThresholds& thresholds);
/// A note for the reader where the generator did not keep up; else empty.
std::string lateness_note(const LoadResult& result);

/// Figures that are not finite are null.
nlohmann::json to_json(const LoadResult& result);
nlohmann::json to_json(const SoakResult& result);
nlohmann::json to_json(const LoadReport& report);
std::string load_report_text(const LoadReport& report);
/// One self-contained page.
std::string load_report_html(const LoadReport& report);

}  // namespace slipway
