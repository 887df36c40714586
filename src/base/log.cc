// The log of long-running verbs, through spdlog.
#include "base/log.h"

#include <spdlog/cfg/env.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/visible.h"

namespace slipway {
namespace {

spdlog::logger& logger() {
  static const auto log = [] {
    auto made = spdlog::stderr_logger_mt("slipway");
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    spdlog::cfg::load_env_levels();
    return made;
  }();
  return *log;
}

}  // namespace

void log_line(LogLevel level, const std::string& message) {
  constexpr spdlog::level::level_enum levels[] = {spdlog::level::info, spdlog::level::warn, spdlog::level::err};
  logger().log(levels[static_cast<int>(level)], visible(message));
}

void silence_log() { logger().set_level(spdlog::level::warn); }

}  // namespace slipway
