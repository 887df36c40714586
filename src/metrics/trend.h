#pragma once
#include <cstdint>
#include <span>

namespace slipway {

/// A monotonic trend of y over x, robust against outliers and made honest for samples that follow from each other.
struct Trend {
  double slope = 0, low = 0, high = 0;  ///< y's unit per x's; low and high: confidence interval, infinite for n < 4
  double intercept = 0;                 ///< so that intercept + slope·x runs through the middle of the samples
  double p = 1;                         ///< two-sided, of there being no trend
  double inflation = 1;                 ///< of the variance, because neighbouring samples resemble each other
  int64_t n = 0;
};

/// The slope is Theil's and Sen's (Sen, 1968: the median over all pairs), its interval rests on Kendall's S; p is
/// Mann's and Kendall's, with ties. The variance of S is widened for autocorrelation after Hamed & Rao (1998), never
/// narrowed. Needs x ascending without equals, both of one length; time and memory grow with n², so pass hundreds, not
/// millions.
Trend theil_sen_trend(std::span<const double> x, std::span<const double> y, double confidence = 0.95);

}  // namespace slipway
