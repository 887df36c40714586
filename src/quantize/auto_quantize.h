#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "quantize/qat/qat.h"
#include "quantize/quantize.h"
#include "quantize/strategy.h"

namespace slipway {

/// Puts the data file's pre-processing and class names into the model. Fails with kInvalidArgument where the model
/// carries a pre-processing that contradicts it.
void carry_preprocess(const Dataset& data, Graph& model);

struct AutoQuantizeOptions {
  QuantizationGoal goal = {};                                ///< its bits are what is quantised to
  std::optional<QuantizeStrategy> strategy = {};             ///< none: by choose_strategy
  QatOptions qat = {};                                       ///< `quantize` and `calibrate` are PTQ's too
  int64_t test_samples = -1;                                 ///< of the test split, that judge; −1: all
  int threads = 1;                                           ///< of judging
  std::function<void(const std::string&)> on_sentence = {};  ///< each reason, as soon as it is known
  std::function<void(const QuantizationRun&)> on_ptq = {};
  std::function<void(const QatEpoch&)> on_epoch = {};
  /// Runs a step that needs much memory, in a process of its own if wanted; none: here.
  std::function<nlohmann::json(const std::function<nlohmann::json()>& step)> apart = {};
  std::function<QatResult(const QatFiles&, const QatOptions&, const std::function<void(const QatEpoch&)>&)> train =
      run_qat;
  bool can_train = has_qat();
};

struct AutoQuantizeResult {
  QuantizeStrategy kept = QuantizeStrategy::kPtq;  ///< kPtq or kQat
  std::vector<std::string> why;                    ///< sentences, in the order of events
  bool met = true;                                 ///< the goal, as far as it was judged
  bool labels = true;                              ///< otherwise "accuracy" is agreement with the original
  int64_t test_samples = 0;
  /// Top-1 as executed; NaN where it was not measured.
  double float_accuracy = std::numeric_limits<double>::quiet_NaN(), ptq_accuracy = float_accuracy,
         qat_accuracy = float_accuracy;
  int64_t quantized_nodes = 0, nodes = 0, calibration_samples = 0;  ///< of PTQ; 0 where there was none
  std::optional<QatResult> qat;
};
nlohmann::json to_json(const AutoQuantizeResult& result);

/// Quantises a float ONNX file by the strategy and writes the QDQ file, carrying the data file's pre-processing: PTQ is
/// judged on the test split (but not where it was asked for by name), QAT follows where it falls short; where neither
/// meets the goal the better one is written and `met` is false. Fails with kUnsupported where QAT is due and this build
/// can't train, and as quantize() and run_qat() do; but where PTQ exists, what QAT can't do with the model or the data
/// leaves PTQ, with the reason in `why`.
AutoQuantizeResult auto_quantize(const std::string& model, const Dataset& data, const std::string& output,
                                 const AutoQuantizeOptions& options);

}  // namespace slipway
