#pragma once
#include "verify/report.h"

namespace slipway {

/// Judges the Report's figures by its policy: fills in checks, verdict and reason. A pure function of the figures.
void judge(Report& report);

}  // namespace slipway
