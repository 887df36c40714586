#pragma once
#include <cstdint>
#include <span>

namespace slipway {

/// Sums over pairs of a reference x and an approximation y, in double; added in parts, merged exactly as long as the
/// order is kept. Any NaN or infinity in the data makes the figures NaN or infinite.
class Distance {
 public:
  /// Both of one length.
  void add(std::span<const float> x, std::span<const float> y);
  void merge(const Distance& other);

  int64_t count() const { return count_; }
  /// x·y / (‖x‖‖y‖) in [−1, 1]; both zero → 1, one zero → 0.
  double cosine() const;
  double mse() const;  ///< 0 without elements
  double max_abs() const { return max_abs_; }
  /// 20·log10(max(‖x‖, ε) / max(‖x − y‖, ε)), ε = 2.2e-16, in dB.
  double sqnr_db() const;
  /// 10·log10(peak² / MSE) in dB; infinite for equal data.
  double psnr_db(double peak) const;

 private:
  double xx_ = 0, yy_ = 0, xy_ = 0, errors_ = 0, max_abs_ = 0;
  int64_t count_ = 0;
};

Distance distance(std::span<const float> x, std::span<const float> y);

/// Σ p·ln(p/q) in nats. Terms with p = 0 count 0; q is taken as at least `eps`, so that the result is finite.
double kl_of_probabilities(std::span<const float> p, std::span<const float> q, double eps = 1e-12);
/// The same of softmax(x) and softmax(y), through log-softmax.
double kl_of_logits(std::span<const float> x, std::span<const float> y, double eps = 1e-12);

}  // namespace slipway
