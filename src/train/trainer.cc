// The training loop. Order, augmentation and learning rate depend on the step alone, and a checkpoint holds weights,
// scales, the optimiser's state, the best so far and the history, so a training that was killed ends with the very
// weights of one that was not.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/progress.h"
#include "train/checkpoint.h"
#include "train/tensors.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr int64_t kEvaluationBatch = 128;
constexpr int64_t kTimedSteps = 10;  // after which the time budget is set against the pace
constexpr double kReserve = 0.95;    // of the time budget is trained in; the rest evaluates
constexpr double kLeastProbability = 1e-12;
// Adaptive gradient clipping (Brock et al., "High-performance large-scale image recognition without normalization",
// 2021, section 4), by tensor: a gradient's norm is at most this many times the weights'. Inputs of 0..255 make the
// first layer's weights small and their gradients large; without it no rate suits both it and the others.
constexpr double kMostGradient = 1;
constexpr double kLeastMagnitude = 1e-3;  // that AdamW's rate is relative to where a bias is near 0

using Snapshot = std::map<std::string, at::Tensor>;

Snapshot copy_of(const Snapshot& state) {
  Snapshot copy;
  for (const auto& [name, tensor] : state) copy[name] = tensor.detach().clone();
  return copy;
}

void restore(const Snapshot& state, const Snapshot& from) {
  const at::NoGradGuard no_gradient;
  for (const auto& [name, tensor] : state) tensor.copy_(from.at(name));
}

double rms(const at::Tensor& tensor) { return tensor.detach().square().mean().sqrt().item<double>(); }

/// Means over samples.
struct Tally {
  double loss = 0, correct = 0, samples = 0;
  void add(double batch_loss, int64_t batch_correct, int64_t count) {
    loss += batch_loss * static_cast<double>(count);
    correct += static_cast<double>(batch_correct);
    samples += static_cast<double>(count);
  }
  double mean_loss() const { return loss / samples; }
  double accuracy() const { return correct / samples; }
};

class Trainer {
 public:
  Trainer(QatModel& model, Executor& teacher, const TrainingSet& data, const QatOptions& options,
          const TrainerContext& context, const std::function<void(const QatEpoch&)>& on_epoch, QatResult& result)
      : model_(model),
        teacher_(teacher),
        data_(data),
        o_(options),
        context_(context),
        on_epoch_(on_epoch),
        result_(result) {
    batch_ = std::min(o_.batch, data_.train_size());
    steps_per_epoch_ = data_.train_size() / batch_;  // the last samples of an order that fill no batch wait
    total_steps_ = steps_per_epoch_ * o_.epochs;
    weight_ = !data_.has_labels() || o_.loss == QatLoss::kDistillation ? 1.0
              : o_.loss == QatLoss::kLabels                            ? 0.0
                                                                       : o_.distillation_weight;
    make_optimizer();
  }

  void run() {
    result_.labels = data_.has_labels();
    result_.train_samples = data_.train_size();
    result_.held_out_samples = data_.held_out_size();
    std::optional<Checkpoint> checkpoint;
    if (!context_.checkpoint.empty() && !o_.restart) checkpoint = load_checkpoint(context_.checkpoint, context_.key);
    if (checkpoint) {
      resume(*checkpoint);
    } else {
      finish_epoch({.epoch = 0}, now_ns());
    }
    start_ns_ = now_ns();
    Progress progress(fmt::format("training {}", bits_name(o_.quantize)), total_steps_, o_.quiet);
    progress.skip(step_);
    try {
      while (result_.stopped.empty()) train_epoch(progress);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInterrupted) throw;
      if (context_.checkpoint.empty()) throw;
      save();
      fail(ErrorCode::kInterrupted, "Interrupted; the same command goes on from the checkpoint: {}",
           context_.checkpoint);
    }
    if (result_.best_epoch == 0)
      result_.stopped +=
          "; no epoch was better than post-training quantisation, whose model is kept; try a lower "
          "--learning-rate";
    restore(model_.state(), best_);
    result_.seconds = seconds();
  }

 private:
  void make_optimizer() {
    // LSQ's gradient scaling balances scales for SGD. AdamW's steps have the size of the rate whatever the gradient's,
    // so there the rate is relative to each tensor's magnitude (Shazeer and Stern, "Adafactor", 2018, section 8).
    base_rate_ = o_.learning_rate > 0 ? o_.learning_rate : default_learning_rate(o_);
    std::vector<torch::optim::OptimizerParamGroup> groups;
    const auto add_group = [&](std::vector<at::Tensor> tensors, double factor, double decay) {
      std::unique_ptr<torch::optim::OptimizerOptions> options;
      if (o_.optimizer == QatOptimizer::kSgd)
        options = std::make_unique<torch::optim::SGDOptions>(
            torch::optim::SGDOptions(base_rate_).momentum(o_.momentum).weight_decay(decay).nesterov(o_.momentum > 0));
      else
        options =
            std::make_unique<torch::optim::AdamWOptions>(torch::optim::AdamWOptions(base_rate_).weight_decay(decay));
      groups.emplace_back(std::move(tensors), std::move(options));
      factors_.push_back(factor);
    };
    const auto add = [&](const std::vector<at::Tensor>& tensors, double decay, double least) {
      if (o_.optimizer == QatOptimizer::kAdamW)
        for (const at::Tensor& tensor : tensors) add_group({tensor}, std::max(rms(tensor), least), decay);
      else if (!tensors.empty())
        add_group(tensors, 1, decay);
    };
    add(model_.weights(), o_.weight_decay, 0);
    add(model_.offsets(), 0, kLeastMagnitude);
    add(model_.scales(), 0, 0);
    if (o_.optimizer == QatOptimizer::kSgd)
      optimizer_ = std::make_unique<torch::optim::SGD>(std::move(groups), torch::optim::SGDOptions(base_rate_));
    else
      optimizer_ = std::make_unique<torch::optim::AdamW>(std::move(groups), torch::optim::AdamWOptions(base_rate_));
  }

  double rate() const {
    const double warm = o_.warmup * static_cast<double>(total_steps_), at = static_cast<double>(step_) + 1;
    if (at < warm) return base_rate_ * at / warm;
    const double share = (at - warm) / std::max(1.0, static_cast<double>(total_steps_) - warm);
    return base_rate_ * 0.5 * (1 + std::cos(M_PI * std::min(1.0, share)));
  }

  void set_rate() {
    for (size_t i = 0; i < factors_.size(); ++i) optimizer_->param_groups()[i].options().set_lr(rate() * factors_[i]);
  }

  void clip_gradients() {
    if (o_.optimizer != QatOptimizer::kSgd) return;
    const at::NoGradGuard no_gradient;
    for (const at::Tensor& weight : model_.weights()) {
      if (!weight.grad().defined()) continue;  // another output's
      const double most = kMostGradient * weight.norm().item<double>(), size = weight.grad().norm().item<double>();
      if (size > most) weight.grad().mul_(most / size);
    }
    for (const at::Tensor& scale : model_.scales()) {  // each channel's on its own
      if (!scale.grad().defined()) continue;
      const at::Tensor most = kMostGradient * scale.detach();
      scale.grad().copy_(at::minimum(at::maximum(scale.grad(), -most), most));
    }
  }

  double seconds() const { return earlier_seconds_ + static_cast<double>(now_ns() - start_ns_) * 1e-9; }

  at::Tensor teacher_logits(const std::vector<at::Tensor>& inputs) {
    std::vector<Tensor> values;
    for (const at::Tensor& input : inputs) values.push_back(from_torch(input));
    const at::Tensor scores = to_torch(teacher_.run_samples(values)[0]);
    return scores.reshape({scores.size(0), -1});
  }

  struct Scored {
    at::Tensor loss;
    int64_t correct;
  };
  /// Classes that count as right: the labels, or the original's where there are none.
  Scored score(const TrainingSet::Batch& batch) {
    const at::Tensor out = model_.forward(batch.inputs);
    const at::Tensor logits = out.reshape({out.size(0), -1});
    at::Tensor loss, right = batch.labels;
    if (weight_ > 0) {
      at::Tensor target = teacher_logits(batch.inputs);
      if (model_.gives_probabilities()) target = target.clamp_min(kLeastProbability).log();
      if (!right.defined()) right = target.argmax(1);
      const at::Tensor wanted = at::log_softmax(target / o_.temperature, 1);
      const at::Tensor got = at::log_softmax(logits / o_.temperature, 1);
      loss = weight_ * o_.temperature * o_.temperature * (wanted.exp() * (wanted - got)).sum(1).mean();
    }
    if (weight_ < 1) {
      const at::Tensor labels = (1 - weight_) * at::cross_entropy_loss(logits, batch.labels);
      loss = loss.defined() ? loss + labels : labels;
    }
    return {loss, logits.argmax(1).eq(right).sum().item<int64_t>()};
  }

  Tally evaluate() {
    const at::NoGradGuard no_gradient;
    Tally tally;
    for (int64_t first = 0; first < data_.held_out_size(); first += kEvaluationBatch) {
      const int64_t count = std::min(kEvaluationBatch, data_.held_out_size() - first);
      for (const TrainingSet::Batch& batch : data_.held_out_batches(first, count)) {
        const Scored scored = score(batch);
        tally.add(scored.loss.item<double>(), scored.correct, batch.size);
      }
    }
    return tally;
  }

  void train_epoch(Progress& progress) {
    const int64_t epoch = step_ / steps_per_epoch_ + 1, start = now_ns();
    for (int64_t at = step_ % steps_per_epoch_; at < steps_per_epoch_; ++at) {
      set_rate();
      optimizer_->zero_grad();
      double loss = 0;
      int64_t correct = 0;
      // Rows are independent, so the shapes' gradients add up to what one batch of all samples would give.
      for (const TrainingSet::Batch& batch : data_.train_batches(epoch, at * batch_, batch_)) {
        const double share = static_cast<double>(batch.size) / static_cast<double>(batch_);
        const Scored scored = score(batch);
        loss += share * scored.loss.item<double>();
        correct += scored.correct;
        if (!std::isfinite(loss)) return give_up(epoch, at);
        (share * scored.loss).backward();
      }
      clip_gradients();
      optimizer_->step();
      model_.clamp_scales();
      tally_.add(loss, correct, batch_);
      ++step_;
      ++steps_here_;
      progress.note(fmt::format("epoch {}/{}, loss {:.4f}, {:.2f} %", epoch, epochs(), tally_.mean_loss(),
                                100 * tally_.accuracy()));
      progress.step();
      mind_the_time();
      if (step_ >= total_steps_) break;
      if (at + 1 < steps_per_epoch_ && static_cast<double>(now_ns() - saved_ns_) * 1e-9 > o_.checkpoint_seconds) save();
    }
    finish_epoch({.epoch = epoch, .learning_rate = rate(), .loss = tally_.mean_loss(), .accuracy = tally_.accuracy()},
                 start);
  }

  int64_t epochs() const { return (total_steps_ + steps_per_epoch_ - 1) / steps_per_epoch_; }

  /// Once the pace is known, the schedule is cut so that it ends within the budget.
  void mind_the_time() {
    if (o_.time_budget_minutes <= 0 || steps_here_ % kTimedSteps != 0) return;
    const double each = static_cast<double>(now_ns() - start_ns_) * 1e-9 / static_cast<double>(steps_here_);
    const double left = kReserve * o_.time_budget_minutes * 60 - context_.spent_seconds - seconds();
    const auto most = std::max(step_, step_ + static_cast<int64_t>(left / each));
    if (most >= total_steps_) return;
    total_steps_ = most;
    out_of_time_ = true;
  }

  void give_up(int64_t epoch, int64_t at) {
    result_.stopped = fmt::format(
        "the loss became no finite number in epoch {}, step {}; the best epoch before is kept", epoch, at + 1);
  }

  void finish_epoch(QatEpoch epoch, int64_t start) {
    const double trained = static_cast<double>(now_ns() - start) * 1e-9;
    const Tally tally = evaluate();
    epoch.held_out_loss = tally.mean_loss();
    epoch.held_out_accuracy = tally.accuracy();
    epoch.seconds = static_cast<double>(now_ns() - start) * 1e-9;
    if (epoch.epoch > 0) result_.seconds_per_epoch = trained;
    epoch.best = best_.empty() || epoch.held_out_loss < best_loss_;
    if (epoch.epoch > 0 && !std::isfinite(epoch.held_out_loss)) {
      result_.stopped = fmt::format("the loss on held-out samples became no finite number in epoch {}", epoch.epoch);
      epoch.best = false;
    }
    if (epoch.best) {
      best_ = copy_of(model_.state());
      best_loss_ = epoch.held_out_loss;
      result_.best_epoch = epoch.epoch;
    }
    result_.epochs.push_back(epoch);
    tally_ = {};
    if (result_.stopped.empty()) {
      if (step_ >= total_steps_)
        result_.stopped = out_of_time_ ? fmt::format("the time budget of {} minutes is used", o_.time_budget_minutes)
                                       : "all epochs are done";
      else if (o_.patience > 0 && epoch.epoch - result_.best_epoch >= o_.patience)
        result_.stopped = fmt::format("no better epoch for {}", o_.patience);
    }
    if (on_epoch_) on_epoch_(epoch);
    save();
  }

  /// Momentum and the like of one parameter, by the name of its place.
  template <typename Visit>
  void visit_optimizer(const Visit& visit) {
    size_t place = 0;
    for (auto& group : optimizer_->param_groups())
      for (at::Tensor& parameter : group.params()) visit(std::to_string(place++), parameter);
  }

  void save() {
    saved_ns_ = now_ns();
    if (context_.checkpoint.empty()) return;
    Checkpoint checkpoint{context_.key, progress_json().dump(), {}};
    for (const auto& [name, tensor] : model_.state()) checkpoint.tensors["now " + name] = tensor;
    for (const auto& [name, tensor] : best_) checkpoint.tensors["best " + name] = tensor;
    visit_optimizer([&](const std::string& place, at::Tensor& parameter) {
      const auto found = optimizer_->state().find(c10::guts::to_string(parameter.unsafeGetTensorImpl()));
      if (found == optimizer_->state().end()) return;
      if (auto* sgd = dynamic_cast<torch::optim::SGDParamState*>(found->second.get())) {
        if (sgd->momentum_buffer().defined()) checkpoint.tensors["momentum " + place] = sgd->momentum_buffer();
      } else if (auto* adam = dynamic_cast<torch::optim::AdamWParamState*>(found->second.get())) {
        checkpoint.tensors["first moment " + place] = adam->exp_avg();
        checkpoint.tensors["second moment " + place] = adam->exp_avg_sq();
      }
    });
    try {
      save_checkpoint(checkpoint, context_.checkpoint);
    } catch (const Error& error) {
      // Training goes on: hours of it are worth more than the checkpoint.
      if (!std::exchange(warned_, true)) std::fprintf(stderr, "\nwarning: no checkpoint is kept: %s\n", error.what());
    }
  }

  json progress_json() const {
    json epochs = json::array();
    for (const QatEpoch& epoch : result_.epochs) epochs.push_back(to_json(epoch));
    return {{"step", step_},
            {"total_steps", total_steps_},
            {"out_of_time", out_of_time_},
            {"seconds", seconds()},
            {"seconds_per_epoch", result_.seconds_per_epoch},
            {"tally", {tally_.loss, tally_.correct, tally_.samples}},
            {"best_loss", best_loss_},
            {"best_epoch", result_.best_epoch},
            {"stopped", result_.stopped},
            {"epochs", std::move(epochs)}};
  }

  void resume(const Checkpoint& checkpoint) {
    const json progress = json::parse(checkpoint.progress);
    step_ = progress.at("step");
    total_steps_ = progress.at("total_steps");
    out_of_time_ = progress.at("out_of_time");
    earlier_seconds_ = progress.at("seconds");
    result_.seconds_per_epoch = progress.at("seconds_per_epoch");
    tally_ = {progress.at("tally")[0], progress.at("tally")[1], progress.at("tally")[2]};
    best_loss_ = progress.at("best_loss");
    result_.best_epoch = progress.at("best_epoch");
    result_.stopped = progress.at("stopped");
    for (const json& epoch : progress.at("epochs")) {
      result_.epochs.push_back(qat_epoch_from_json(epoch));
      if (on_epoch_) on_epoch_(result_.epochs.back());
    }
    Snapshot now;
    for (const auto& [name, tensor] : checkpoint.tensors) {
      if (name.starts_with("now ")) now[name.substr(4)] = tensor;
      if (name.starts_with("best ")) best_[name.substr(5)] = tensor;
    }
    restore(model_.state(), now);
    if (!o_.quiet)
      fmt::print(stderr, "Going on from the checkpoint, after {} of {} steps: {}\n", step_, total_steps_,
                 context_.checkpoint);
    const auto find = [&](const std::string& name) {
      const auto found = checkpoint.tensors.find(name);
      return found == checkpoint.tensors.end() ? at::Tensor() : found->second;
    };
    visit_optimizer([&](const std::string& place, at::Tensor& parameter) {
      auto& state = optimizer_->state()[c10::guts::to_string(parameter.unsafeGetTensorImpl())];
      if (const at::Tensor momentum = find("momentum " + place); momentum.defined()) {
        auto sgd = std::make_unique<torch::optim::SGDParamState>();
        sgd->momentum_buffer(momentum);
        state = std::move(sgd);
      } else if (const at::Tensor first = find("first moment " + place); first.defined()) {
        auto adam = std::make_unique<torch::optim::AdamWParamState>();
        adam->step(step_);
        adam->exp_avg(first);
        adam->exp_avg_sq(find("second moment " + place));
        state = std::move(adam);
      } else {
        optimizer_->state().erase(c10::guts::to_string(parameter.unsafeGetTensorImpl()));
      }
    });
  }

  QatModel& model_;
  Executor& teacher_;
  const TrainingSet& data_;
  const QatOptions& o_;
  const TrainerContext& context_;
  const std::function<void(const QatEpoch&)>& on_epoch_;
  QatResult& result_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::vector<double> factors_;  ///< of each parameter group's learning rate
  double base_rate_ = 0, weight_ = 0, best_loss_ = 0, earlier_seconds_ = 0;
  int64_t batch_ = 1, steps_per_epoch_ = 1, total_steps_ = 0, step_ = 0, steps_here_ = 0;
  int64_t start_ns_ = now_ns(), saved_ns_ = now_ns();
  bool out_of_time_ = false, warned_ = false;
  Tally tally_;
  Snapshot best_;
};

}  // namespace

double default_learning_rate(const QatOptions& options) {
  const bool narrow = options.quantize.weight_bits < 8;
  if (options.optimizer == QatOptimizer::kSgd) return narrow ? 5e-4 : 1e-4;
  return narrow ? 1e-3 : 2.5e-4;
}

void train(QatModel& model, Executor& teacher, const TrainingSet& data, const QatOptions& options,
           const TrainerContext& context, const std::function<void(const QatEpoch&)>& on_epoch, QatResult& result) {
  Trainer(model, teacher, data, options, context, on_epoch, result).run();
}

}  // namespace slipway
