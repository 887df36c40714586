#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace slipway {

int exit_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kVerificationFailed:
      return 1;
    case ErrorCode::kInternal:
      return 3;
    case ErrorCode::kInterrupted:
      return 130;
    default:
      return 2;
  }
}

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 400;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kVerificationFailed:
      return 409;
    case ErrorCode::kInvalidModel:
    case ErrorCode::kUnsupported:
      return 422;
    case ErrorCode::kOverloaded:
    case ErrorCode::kInterrupted:
    case ErrorCode::kOutOfMemory:
      return 503;
    case ErrorCode::kDeadline:
      return 504;
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return 500;
}

int grpc_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidModel:
      return 3;  // INVALID_ARGUMENT
    case ErrorCode::kDeadline:
      return 4;  // DEADLINE_EXCEEDED
    case ErrorCode::kNotFound:
      return 5;  // NOT_FOUND
    case ErrorCode::kOutOfMemory:
      return 8;  // RESOURCE_EXHAUSTED
    case ErrorCode::kVerificationFailed:
      return 9;  // FAILED_PRECONDITION
    case ErrorCode::kUnsupported:
      return 12;  // UNIMPLEMENTED
    case ErrorCode::kOverloaded:
    case ErrorCode::kInterrupted:
      return 14;  // UNAVAILABLE
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return 13;  // INTERNAL
}

const char* to_string(ErrorCode code) {
  constexpr const char* names[kErrorCodeCount] = {
      "invalid_model", "unsupported",         "invalid_argument", "not_found", "io",           "deadline",
      "overloaded",    "verification_failed", "interrupted",      "internal",  "out_of_memory"};
  return names[static_cast<int>(code)];
}

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "slipway: internal error: %s does not hold (%s:%d). Please report it.\n", condition, file, line);
  std::abort();
}

}  // namespace slipway
