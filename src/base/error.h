#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace slipway {

enum class ErrorCode {
  kInvalidModel,
  kUnsupported,
  kInvalidArgument,
  kNotFound,
  kIo,
  kDeadline,
  kOverloaded,
  kVerificationFailed,
  kInterrupted,
  kInternal,
  kOutOfMemory,
};

/// The one exception of Slipway. The message is a static sentence first, values last, with the place and the remedy.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// 0 good, 1 verdict negative, 2 bad usage or input, 3 internal, 130 interrupted.
int exit_status(ErrorCode code);
/// 400, 404, 409, 422, 500, 503 or 504: what the caller did wrong is never a 5xx, except that the server has no room
/// or no memory (503) or no time (504).
int http_status(ErrorCode code);
/// The number of the gRPC status code.
int grpc_status(ErrorCode code);
/// "invalid_argument", "overloaded", …: label of metrics and journals.
const char* to_string(ErrorCode code);
inline constexpr int kErrorCodeCount = 11;

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

/// A broken invariant of our own: says where and aborts. User input never reaches one.
#define SLIPWAY_CHECK(condition)                                               \
  do {                                                                         \
    if (!(condition)) ::slipway::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)

}  // namespace slipway
