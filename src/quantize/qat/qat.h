#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "quantize/calibrate/calibrate.h"
#include "quantize/ptq/quantize_static.h"

namespace slipway {

/// What the training minimises.
enum class QatLoss {
  kLabels,        ///< cross entropy with the labels
  kDistillation,  ///< cross entropy with the float original's probabilities; needs no labels
  kMixed,         ///< (1 − w) of the first and w of the second
};
/// "labels", "distillation", "mixed".
std::string_view to_string(QatLoss loss);
/// Fails with kInvalidArgument, listing the losses.
QatLoss parse_qat_loss(std::string_view name);

enum class QatOptimizer { kSgd, kAdamW };
/// "sgd", "adamw".
std::string_view to_string(QatOptimizer optimizer);
QatOptimizer parse_qat_optimizer(std::string_view name);

/// Bits as people write them: "w8a8", "w4a8". Fails with kInvalidArgument, listing them.
void parse_bits(std::string_view text, QuantizeOptions& options);
std::string bits_name(const QuantizeOptions& options);

struct QatOptions {
  QuantizeOptions quantize = {};
  CalibrateOptions calibrate = {};
  QatLoss loss = QatLoss::kMixed;  ///< kDistillation where the training data has no labels
  double distillation_weight = 0.7;
  double temperature = 2;  ///< of both softmaxes in distillation (Hinton et al. 2015)
  QatOptimizer optimizer = QatOptimizer::kSgd;
  double learning_rate = 0;  ///< the highest; AdamW: a share of each tensor's root mean square; 0: by optimiser, bits
  double momentum = 0.9, weight_decay = 1e-4;
  double warmup = 0.1;  ///< share of the steps in which the rate rises; then it falls as a cosine to 0
  int64_t epochs = 5, batch = 64;
  int64_t samples = -1;            ///< of the training split, spread evenly; −1: all
  double held_out = 0.1;           ///< share of them that is not trained on and chooses the best epoch
  int64_t max_held_out = 2000;     ///< at most so many
  int64_t patience = 0;            ///< stops after so many epochs without a better one; 0: never
  double time_budget_minutes = 0;  ///< stops in time, keeping the best; 0: none
  int64_t crop = -1;               ///< augmentation: shifted by up to so many pixels; −1: as the data file says
  int flip = -1;                   ///< mirrored left to right half the time: 1, 0; −1: as the data file says
  uint64_t seed = 0;
  int threads = 0;                 ///< 0: all cores
  std::string checkpoint = {};     ///< file; empty: OUTPUT.checkpoint
  double checkpoint_seconds = 30;  ///< between two, beside those at the end of each epoch
  bool restart = false;            ///< ignore a checkpoint that is there
  bool quiet = false;              ///< no progress
  int64_t compare_samples = 64;    ///< whose integer tensors are compared, simulation against execution
};
nlohmann::json to_json(const QatOptions& options);
QatOptions qat_options_from_json(const nlohmann::json& json);

struct QatEpoch {
  int64_t epoch = 0;  ///< from 1; 0: before training, as post-training quantisation left it
  double learning_rate = 0;
  double loss = std::numeric_limits<double>::quiet_NaN();      ///< mean over the epoch's samples; NaN: not measured
  double accuracy = std::numeric_limits<double>::quiet_NaN();  ///< on them, augmented; NaN without labels
  double held_out_loss = 0;
  double held_out_accuracy = 0;  ///< without labels: share of predictions equal to the original's
  double seconds = 0;
  bool best = false;  ///< so far
};

nlohmann::json to_json(const QatEpoch& epoch);
QatEpoch qat_epoch_from_json(const nlohmann::json& json);

/// A sample that the executed model and the simulation put into different classes.
struct QatDisagreement {
  std::string sample;
  int64_t label = -1, simulated = 0, executed = 0;
  double margin = 0;  ///< between the simulation's two highest scores
};

/// The simulation, evaluated with the engine's order of requantisation, against what the engine computes.
struct QatAgreement {
  int64_t samples = 0, equal = 0;  ///< predictions on the test split
  double output_step = 0;          ///< the smallest difference of two scores: one code, or one unit of the last sum
  double largest_margin = 0;       ///< of the disagreements
  int64_t compared_samples = 0, tensors = 0, elements = 0, unequal_elements = 0;  ///< integer tensors
  std::string first_unequal;                                                      ///< tensor
  std::vector<QatDisagreement> disagreements;
};

struct QatResult {
  std::string output;
  std::vector<QatEpoch> epochs;
  int64_t best_epoch = 0;
  std::string stopped;  ///< why training ended, one sentence
  double seconds = 0, seconds_per_epoch = 0;
  bool labels = false;  ///< otherwise "accuracy" is agreement with the original
  int64_t train_samples = 0, held_out_samples = 0, test_samples = 0;
  double float_accuracy = 0, ptq_accuracy = 0,
         accuracy = 0;                                 ///< test split, executed: original, PTQ at these bits, QAT
  uint64_t float_bytes = 0, ptq_bytes = 0, bytes = 0;  ///< of the files
  int64_t quantized_nodes = 0, nodes = 0;
  QatAgreement agreement;
};
nlohmann::json to_json(const QatResult& result);
QatResult qat_result_from_json(const nlohmann::json& json);

/// Whether the program slipway-torch stands beside this one (or where $SLIPWAY_TORCH says).
bool has_qat();

struct QatFiles {
  std::string model, data, output;  ///< float ONNX; data file; QDQ ONNX to write
};

/// Quantisation-aware training in a process of its own (slipway-torch), which draws its progress on standard error.
/// Goes on from its checkpoint where one fits. `on_epoch` hears of each epoch, those of an earlier run included. The
/// history goes into the file's metadata "slipway.training". Fails with kUnsupported where this build has no
/// slipway-torch or an operator has no gradient (node named), kInvalidArgument where the data does not fit, kIo,
/// kInterrupted (the checkpoint is kept).
QatResult run_qat(const QatFiles& files, const QatOptions& options,
                  const std::function<void(const QatEpoch&)>& on_epoch = {});

}  // namespace slipway
