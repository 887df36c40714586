#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace slipway {

/// What a quantised model is to reach, and at what price.
struct QuantizationGoal {
  std::optional<double> max_accuracy_drop_points = {};  ///< top-1, percentage points: must lose less; default 1
  std::optional<double> time_budget_minutes = {};       ///< of quantising; none: no limit
  bool accuracy_critical = false;
  int weight_bits = 8, activation_bits = 8;
  bool operator==(const QuantizationGoal&) const = default;
};

/// What a candidate must keep of the original to pass. Figures without a threshold are reported, not judged.
struct Policy {
  struct Accuracy {
    double max_drop_points = 1;                   ///< top-1, percentage points: fails at this drop or more
    double max_class_drop_points = 10;            ///< recall of a class: fails above, when McNemar's p is below 0.05
    double max_edge_case_drop_points = 5;         ///< top-1 on spoiled samples, the same rule
    std::optional<double> min_agreement;          ///< share of equal predictions
    int64_t min_samples = 100;                    ///< below, accuracy is inconclusive unless it failed
    bool require_better_than_chance = true;       ///< of both models, significantly: p < 0.001
    std::optional<double> min_top1_percent = {};  ///< of the candidate
    bool operator==(const Accuracy&) const = default;
  } accuracy;
  struct Output {
    double min_cosine = 0.99;  ///< mean over the samples, each output: fails at or below
    std::optional<double> max_kl, max_mse;
    bool operator==(const Output&) const = default;
  } output;
  struct Performance {
    double max_latency_ratio = 1.05;  ///< candidate / original: fails when the interval's lower end is above
    double confidence = 0.95;
    int64_t min_rounds = 20;  ///< interleaved pairs; below, latency is inconclusive
    double max_memory_increase_percent = 5;
    double memory_slack_mib = 1;  ///< differences below are the allocator's
    std::optional<double> max_file_increase_percent;
    bool operator==(const Performance&) const = default;
  } performance;
  struct Stability {
    bool require_reproducible = true;  ///< the same bits, run after run
    double max_variation = 1e-3;       ///< over threads and batch positions, of the output's largest magnitude
    int64_t max_new_nonfinite = 0;     ///< inputs that make NaN or infinity only in the candidate
    double max_engine_error = 1e-4;    ///< of a plan's step against the reference, of its result's largest magnitude
    std::optional<double> max_saturated_percent;  ///< of a layer's codes on real samples
    bool operator==(const Stability&) const = default;
  } stability;
  struct Simulation {
    double max_error_rate = 0.001;  ///< of the requests of load, soak, replay and A/B comparison
    double max_p99_ratio = 2;       ///< candidate / original, served: fails when the interval's lower end is above
    std::optional<double> max_memory_slope_mib_per_hour;  ///< fails when the interval's lower end is above
    double min_seconds = 5;                               ///< of load and soak; below, a pass becomes inconclusive
    bool operator==(const Simulation&) const = default;
  } simulation;
  QuantizationGoal quantization;  ///< how `quantize --strategy auto` and `ship` choose PTQ or QAT
  bool operator==(const Policy&) const = default;
};

/// Fails with kNotFound, or kInvalidArgument naming file, line, the wrong key and the nearest right one.
Policy load_policy(const std::string& path);
Policy parse_policy(const std::string& text, const std::string& name);
/// The defaults as a commented file.
std::string policy_template();
/// SHA-256 over the thresholds, however they were written. Keys of `quantization` count where they are not the default,
/// so that policies without them keep the digest that older reports hold.
std::string policy_digest(const Policy& policy);
/// The policy's `quantization`, with accuracy.max_drop_points where it names no tolerance.
QuantizationGoal quantization_goal(const Policy& policy);

}  // namespace slipway
