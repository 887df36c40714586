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

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "slipway: internal error: %s does not hold (%s:%d). Please report it.\n", condition, file, line);
  std::abort();
}

}  // namespace slipway
