#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>

namespace slipway {

enum class LogLevel { kInfo, kWarning, kError };

/// One line on standard error: time (UTC, milliseconds), level, message. For what runs long; verbs print instead.
void log_line(LogLevel level, const std::string& message);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

/// Only warnings and errors from here on.
void silence_log();

}  // namespace slipway
