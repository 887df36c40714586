#pragma once
#include <string>

#include "base/error.h"

namespace slipway {

/// What was asked for does not fit into memory: kInvalidArgument.
class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& message) : Error(ErrorCode::kInvalidArgument, message) {}
};

}  // namespace slipway
