#pragma once
#include <string>

#include "engine/plan.h"

namespace slipway {

/// What the file that a plan was opened from is known by: SHA-256 over its header and the digests of its model and
/// weights. Empty for a plan that was built here.
std::string file_digest(const Plan& plan);

}  // namespace slipway
