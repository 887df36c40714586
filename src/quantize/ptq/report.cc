// The quantisation report as JSON, and the names of profiles.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "quantize/ptq/quantize_static.h"

namespace slipway {

std::string_view to_string(QuantizeProfile profile) {
  return profile == QuantizeProfile::kPortable ? "portable" : "cpu";
}

QuantizeProfile parse_quantize_profile(std::string_view name) {
  if (name == "portable") return QuantizeProfile::kPortable;
  if (name == "cpu") return QuantizeProfile::kCpu;
  fail(ErrorCode::kInvalidArgument, "There is no such quantisation profile; choose portable or cpu: '{}'", name);
}

nlohmann::json to_json(const QuantizeReport& report) {
  nlohmann::json tensors = nlohmann::json::array(), weights = tensors, nodes = tensors;
  for (const QuantizedTensor& t : report.tensors) {
    nlohmann::json candidates = nlohmann::json::object();
    for (const RangeCandidate& c : t.range.candidates)
      candidates[std::string(to_string(c.method))] = {{"low", c.low}, {"high", c.high}, {"sqnr_db", c.sqnr_db}};
    nlohmann::json entry = {{"name", t.name},
                            {"group", t.group},
                            {"scale", t.params.scale},
                            {"zero_point", t.params.zero_point},
                            {"min", t.min},
                            {"max", t.max},
                            {"method", to_string(t.range.chosen.method)},
                            {"sqnr_db", t.range.chosen.sqnr_db},
                            {"candidates", std::move(candidates)}};
    if (!t.range.note.empty()) entry["note"] = t.range.note;
    tensors.push_back(std::move(entry));
  }
  for (const QuantizedWeight& w : report.weights)
    weights.push_back({{"name", w.name},
                       {"node", w.node},
                       {"axis", w.axis},
                       {"channels", w.channels},
                       {"dead_channels", w.dead_channels},
                       {"widened_channels", w.widened_channels},
                       {"min_scale", w.min_scale},
                       {"max_scale", w.max_scale},
                       {"sqnr_db", w.sqnr_db}});
  for (const NodeDecision& n : report.nodes) {
    nlohmann::json entry = {{"name", n.name}, {"op", n.op_type}, {"quantized", n.quantized}};
    if (!n.reason.empty()) entry["reason"] = n.reason;
    nodes.push_back(std::move(entry));
  }
  return {{"profile", to_string(report.options.profile)},
          {"activation_bits", report.options.activation_bits},
          {"weight_bits", report.options.weight_bits},
          {"method", to_string(report.options.range.method)},
          {"percentile", report.options.range.percentile},
          {"samples", report.samples},
          {"data_digest", report.data_digest},
          {"tensors", std::move(tensors)},
          {"weights", std::move(weights)},
          {"nodes", std::move(nodes)}};
}

}  // namespace slipway
