#pragma once
#include <functional>
#include <string>

#include "engine/executor.h"
#include "quantize/qat/qat.h"
#include "train/qat_model.h"
#include "train/training_set.h"

namespace slipway {

struct TrainerContext {
  std::string checkpoint;    ///< empty: none is written
  std::string key;           ///< what a checkpoint must be of
  double spent_seconds = 0;  ///< of the time budget, on what came before
};

/// Trains the model in place and leaves it as it was after its best epoch, by the loss on the samples held out.
/// `teacher` is the float original. Fills the result's epochs, best_epoch, stopped, seconds, seconds_per_epoch, labels
/// and sample counts; returns early, with the reason, at the end of patience or time and at a loss that is no number.
/// Goes on from the checkpoint where there is one. Fails with kInterrupted (a checkpoint is written first),
/// kInvalidArgument at a damaged checkpoint.
void train(QatModel& model, Executor& teacher, const TrainingSet& data, const QatOptions& options,
           const TrainerContext& context, const std::function<void(const QatEpoch&)>& on_epoch, QatResult& result);

/// The highest learning rate where the options name none.
double default_learning_rate(const QatOptions& options);

}  // namespace slipway
