#pragma once
#include <string>

#include "metrics/classification.h"
#include "report/report.h"

namespace slipway {

/// Preemptions a second and thread above which a machine is busy with other work; an idle one shows a few.
inline constexpr double kCrowded = 30;

/// Judges the Report's figures by its policy: fills in checks, verdict and reason. A pure function of the figures.
void judge(Report& report);

/// What `data preview` and a verification say of a classifier that is no better than chance, or hardly (Cohen's kappa
/// below 0.1); empty for any other. Begins with "accuracy".
std::string chance_warning(double accuracy, const ChanceAgreement& chance);

}  // namespace slipway
