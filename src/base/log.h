#pragma once
#include <fmt/format.h>

#include <exception>
#include <string>
#include <utility>

namespace slipway {

enum class LogLevel { kInfo, kWarning, kError };

/// One line on standard error: time (UTC, milliseconds), level, message. For what runs long; verbs print instead. The
/// environment may raise the lowest level that is told: SPDLOG_LEVEL=warn.
void log_line(LogLevel level, const std::string& message);

/// Never throws: a line that there is no memory for is lost.
template <typename... Args>
void log_any(LogLevel level, fmt::format_string<Args...> format, Args&&... args) noexcept {
  try {
    log_line(level, fmt::format(format, std::forward<Args>(args)...));
  } catch (const std::exception&) {
  }
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_any(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_any(LogLevel::kWarning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_any(LogLevel::kError, format, std::forward<Args>(args)...);
}

/// Only warnings and errors from here on.
void silence_log();

}  // namespace slipway
