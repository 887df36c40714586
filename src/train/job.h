#pragma once
#include <functional>

#include "quantize/qat/qat.h"

namespace slipway {

/// All of a quantisation-aware training, in this process: what run_qat hands to slipway-torch. Fails as it says.
QatResult run_job(const QatFiles& files, const QatOptions& options,
                  const std::function<void(const QatEpoch&)>& on_epoch);

}  // namespace slipway
