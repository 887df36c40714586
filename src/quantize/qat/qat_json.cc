// The options and the result of a training as JSON: they cross the pipe to slipway-torch and travel in the model's
// metadata. One list of fields for each struct serves both directions; NaN is null.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "quantize/qat/qat.h"

namespace slipway {

using nlohmann::json;

namespace {

/// Puts the fields into a JSON object.
struct Writer {
  json object = json::object();
  template <typename T>
  void operator()(const char* name, const T& value) {
    if constexpr (std::is_same_v<T, double>)
      object[name] = std::isfinite(value) ? json(value) : json();
    else
      object[name] = value;
  }
  template <typename T, typename Fields>
  void list(const char* name, const std::vector<T>& values, const Fields& fields) {
    json array = json::array();
    for (const T& value : values) {
      Writer writer;
      fields(writer, value);
      array.push_back(std::move(writer.object));
    }
    object[name] = std::move(array);
  }
};

/// Takes them out; a field that is missing keeps its default, one of another type fails.
struct Reader {
  const json& object;
  template <typename T>
  void operator()(const char* name, T& value) {
    const auto found = object.find(name);
    if (found == object.end()) return;
    if constexpr (std::is_same_v<T, double>) {
      if (found->is_null()) {
        value = std::numeric_limits<double>::quiet_NaN();
        return;
      }
    }
    value = found->get<T>();
  }
  template <typename T, typename Fields>
  void list(const char* name, std::vector<T>& values, const Fields& fields) {
    const auto found = object.find(name);
    if (found == object.end()) return;
    for (const json& item : *found) {
      Reader reader{item};
      fields(reader, values.emplace_back());
    }
  }
};

template <typename Visitor, typename Options>
void visit_options(Visitor& v, Options& o) {
  v("weight_bits", o.quantize.weight_bits);
  v("activation_bits", o.quantize.activation_bits);
  v("percentile", o.quantize.range.percentile);
  v("op_types", o.quantize.op_types);
  v("exclude", o.quantize.exclude);
  v("exclude_regex", o.quantize.exclude_regex);
  v("both_add_inputs", o.quantize.quantize_both_add_inputs);
  v("integer_bias", o.quantize.integer_bias);
  v("calibration_samples", o.calibrate.samples);
  v("distillation_weight", o.distillation_weight);
  v("temperature", o.temperature);
  v("learning_rate", o.learning_rate);
  v("momentum", o.momentum);
  v("weight_decay", o.weight_decay);
  v("warmup", o.warmup);
  v("epochs", o.epochs);
  v("batch", o.batch);
  v("samples", o.samples);
  v("held_out", o.held_out);
  v("max_held_out", o.max_held_out);
  v("patience", o.patience);
  v("time_budget_minutes", o.time_budget_minutes);
  v("crop", o.crop);
  v("flip", o.flip);
  v("seed", o.seed);
  v("threads", o.threads);
  v("checkpoint", o.checkpoint);
  v("checkpoint_seconds", o.checkpoint_seconds);
  v("restart", o.restart);
  v("quiet", o.quiet);
  v("compare_samples", o.compare_samples);
}

const auto visit_epoch = [](auto& v, auto& e) {
  v("epoch", e.epoch);
  v("learning_rate", e.learning_rate);
  v("loss", e.loss);
  v("accuracy", e.accuracy);
  v("held_out_loss", e.held_out_loss);
  v("held_out_accuracy", e.held_out_accuracy);
  v("seconds", e.seconds);
  v("best", e.best);
};

const auto visit_disagreement = [](auto& v, auto& d) {
  v("sample", d.sample);
  v("label", d.label);
  v("simulated", d.simulated);
  v("executed", d.executed);
  v("margin", d.margin);
};

template <typename Visitor, typename Agreement>
void visit_agreement(Visitor& v, Agreement& a) {
  v("samples", a.samples);
  v("equal", a.equal);
  v("output_step", a.output_step);
  v("largest_margin", a.largest_margin);
  v("compared_samples", a.compared_samples);
  v("tensors", a.tensors);
  v("elements", a.elements);
  v("unequal_elements", a.unequal_elements);
  v("first_unequal", a.first_unequal);
  v.list("disagreements", a.disagreements, visit_disagreement);
}

template <typename Visitor, typename Result>
void visit_result(Visitor& v, Result& r) {
  v("output", r.output);
  v.list("epochs", r.epochs, visit_epoch);
  v("best_epoch", r.best_epoch);
  v("stopped", r.stopped);
  v("seconds", r.seconds);
  v("seconds_per_epoch", r.seconds_per_epoch);
  v("labels", r.labels);
  v("train_samples", r.train_samples);
  v("held_out_samples", r.held_out_samples);
  v("test_samples", r.test_samples);
  v("float_accuracy", r.float_accuracy);
  v("ptq_accuracy", r.ptq_accuracy);
  v("accuracy", r.accuracy);
  v("float_bytes", r.float_bytes);
  v("ptq_bytes", r.ptq_bytes);
  v("bytes", r.bytes);
  v("quantized_nodes", r.quantized_nodes);
  v("nodes", r.nodes);
}

template <typename Body>
auto reading(const char* what, const Body& body) {
  try {
    return body();
  } catch (const json::exception& error) {
    fail(ErrorCode::kInvalidArgument, "The {} of a training are damaged; train again: {}", what, error.what());
  }
}

const json& child(const json& parent, const char* name) {
  static const json nothing = json::object();
  const auto found = parent.find(name);
  return found == parent.end() ? nothing : *found;
}

constexpr std::string_view kLosses[] = {"labels", "distillation", "mixed"};
constexpr std::string_view kOptimizers[] = {"sgd", "adamw"};

template <typename T, size_t n>
T parse_name(std::string_view name, const std::string_view (&names)[n], const char* what) {
  for (size_t i = 0; i < n; ++i)
    if (names[i] == name) return static_cast<T>(i);
  std::string list;
  for (size_t i = 0; i < n; ++i) list += (i == 0 ? "" : i + 1 == n ? " or " : ", ") + std::string(names[i]);
  fail(ErrorCode::kInvalidArgument, "There is no such {}; choose {}: '{}'", what, list, name);
}

}  // namespace

std::string_view to_string(QatLoss loss) { return kLosses[static_cast<size_t>(loss)]; }
QatLoss parse_qat_loss(std::string_view name) { return parse_name<QatLoss>(name, kLosses, "loss"); }
std::string_view to_string(QatOptimizer optimizer) { return kOptimizers[static_cast<size_t>(optimizer)]; }
QatOptimizer parse_qat_optimizer(std::string_view name) {
  return parse_name<QatOptimizer>(name, kOptimizers, "optimiser");
}

void parse_bits(std::string_view text, QuantizeOptions& options) {
  if (text != "w8a8" && text != "w4a8")
    fail(ErrorCode::kInvalidArgument, "There are no such bits; choose w8a8 or w4a8: '{}'", text);
  options.weight_bits = text[1] - '0';
  options.activation_bits = text[3] - '0';
}

std::string bits_name(const QuantizeOptions& options) {
  return fmt::format("w{}a{}", options.weight_bits, options.activation_bits);
}

json to_json(const QatOptions& options) {
  Writer writer;
  visit_options(writer, options);
  writer.object["profile"] = to_string(options.quantize.profile);
  writer.object["method"] = to_string(options.quantize.range.method);
  writer.object["loss"] = to_string(options.loss);
  writer.object["optimizer"] = to_string(options.optimizer);
  return std::move(writer.object);
}

QatOptions qat_options_from_json(const json& object) {
  return reading("options", [&] {
    QatOptions options;
    Reader reader{object};
    visit_options(reader, options);
    options.quantize.profile = parse_quantize_profile(object.value("profile", "portable"));
    options.quantize.range.method = parse_range_method(object.value("method", "mse"));
    options.loss = parse_qat_loss(object.value("loss", "mixed"));
    options.optimizer = parse_qat_optimizer(object.value("optimizer", "sgd"));
    return options;
  });
}

json to_json(const QatEpoch& epoch) {
  Writer writer;
  visit_epoch(writer, epoch);
  return std::move(writer.object);
}

QatEpoch qat_epoch_from_json(const json& object) {
  return reading("epochs", [&] {
    QatEpoch epoch;
    Reader reader{object};
    visit_epoch(reader, epoch);
    return epoch;
  });
}

json to_json(const QatResult& result) {
  Writer writer, agreement;
  visit_result(writer, result);
  visit_agreement(agreement, result.agreement);
  writer.object["agreement"] = std::move(agreement.object);
  return std::move(writer.object);
}

QatResult qat_result_from_json(const json& object) {
  return reading("figures", [&] {
    QatResult result;
    Reader reader{object}, agreement{child(object, "agreement")};
    visit_result(reader, result);
    visit_agreement(agreement, result.agreement);
    return result;
  });
}

}  // namespace slipway
