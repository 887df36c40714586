// What the server says of itself and its models, in the shapes that Triton's clients read: perf_analyzer takes the
// batch from max_batch_size and the metadata's first dimension, and every duration of the statistics as {count, ns}.
#include "serve/json/model_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace slipway {
namespace {

using nlohmann::json;

/// The version named; else the live one, else the newest that is warm.
std::shared_ptr<ModelVersion> find_version(const Server& server, const std::string& model, const std::string& version) {
  if (!version.empty()) return server.target(model, version, {}).version;
  const auto versions = server.versions(model);
  const int64_t live = server.routing(model).stable;
  for (const auto& candidate : versions)
    if (candidate->version() == live) return candidate;
  if (!versions.empty()) return versions.back();
  return server.target(model, {}, {}).version;  // says why there is none
}

json ports_json(const std::vector<Port>& ports) {
  json all = json::array();
  for (const Port& port : ports)
    all.push_back({{"name", port.name}, {"datatype", datatype_name(port.dtype)}, {"shape", port.dims}});
  return all;
}

json config_ports_json(const std::vector<Port>& ports, bool batches, bool inputs) {
  json all = json::array();
  for (const Port& port : ports) {
    const std::string_view type = port.dtype == DType::kString ? "STRING" : datatype_name(port.dtype);
    json entry{{"name", port.name},
               {"data_type", fmt::format("TYPE_{}", type)},
               {"dims", Dims(port.dims.begin() + (batches && !port.dims.empty() ? 1 : 0), port.dims.end())},
               {"is_shape_tensor", false}};
    if (inputs) entry["optional"] = false;
    all.push_back(std::move(entry));
  }
  return all;
}

json duration(int64_t count, int64_t us) { return {{"count", count}, {"ns", us * 1000}}; }

json version_statistics(const ModelVersion& version) {
  const VersionMetrics& metrics = version.metrics();
  int64_t rows = 0, failed = 0;
  Histogram queue, compute, total;
  for (const VariantMetrics& variant : metrics.variants) {
    const VariantSnapshot counted = snapshot(variant);
    rows += counted.rows;
    for (const int64_t errors : counted.errors) failed += errors;
    queue.merge(counted.queue_us);
    compute.merge(counted.compute_us);
    total.merge(counted.total_us);
  }
  json batches = json::array();
  const Histogram batch_rows = metrics.batch_rows.snapshot();
  for (size_t i = 0; i < batch_rows.counts().size(); ++i)
    if (const int64_t count = batch_rows.counts()[i]; count > 0)
      batches.push_back({{"batch_size", LogBuckets::highest(i)}, {"compute_infer", {{"count", count}}}});
  const json none = duration(0, 0);
  return {{"name", version.model()},
          {"version", std::to_string(version.version())},
          {"last_inference", metrics.last_inference_ms.load()},
          {"inference_count", rows},
          {"execution_count", metrics.executions.load()},
          {"inference_stats",
           {{"success", duration(total.count(), total.sum())},
            {"fail", duration(failed, 0)},
            {"queue", duration(queue.count(), queue.sum())},
            {"compute_input", duration(compute.count(), 0)},  // gathering counts as computing
            {"compute_infer", duration(compute.count(), compute.sum())},
            {"compute_output", duration(compute.count(), 0)},
            {"cache_hit", none},
            {"cache_miss", none}}},
          {"response_stats", json::object()},
          {"batch_stats", std::move(batches)},
          {"memory_usage", {{{"type", "CPU"}, {"id", 0}, {"byte_size", version.memory_bytes()}}}}};
}

}  // namespace

json server_metadata_json() {
  return {{"name", "slipway"},
          {"version", SLIPWAY_VERSION},
          {"extensions",
           {"binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters",
            "statistics"}}};
}

json model_metadata_json(const Server& server, const std::string& model, const std::string& version) {
  const auto found = find_version(server, model, version);
  json versions = json::array();
  for (const auto& warm : server.versions(found->model())) versions.push_back(std::to_string(warm->version()));
  return {{"name", found->model()},
          {"versions", std::move(versions)},
          {"platform", "onnx"},
          {"inputs", ports_json(found->inputs())},
          {"outputs", ports_json(found->outputs())}};
}

json model_config_json(const Server& server, const std::string& model, const std::string& version) {
  const auto found = find_version(server, model, version);
  const ModelConfig& config = found->config();
  const bool batches = found->batching().along_first();  // as the configuration means it
  json document{
      {"name", found->model()},
      {"platform", "onnx"},
      {"backend", "slipway"},
      {"default_model_filename", "model.onnx"},
      {"version_policy", {{"all", json::object()}}},
      {"max_batch_size", batches ? found->max_rows() : 0},
      {"input", config_ports_json(found->inputs(), batches, true)},
      {"output", config_ports_json(found->outputs(), batches, false)},
      {"instance_group", {{{"name", found->model() + "_0"}, {"kind", "KIND_CPU"}, {"count", config.instances}}}},
      {"parameters",
       {{"threads", {{"string_value", std::to_string(config.threads)}}},
        {"batching",
         {{"string_value", found->batching().proven ? "rows are independent" : "off: " + found->batching().reason}}}}}};
  if (found->max_rows() > 1)
    document["dynamic_batching"] = {
        {"max_queue_delay_microseconds", config.batching.delay_us},
        {"default_queue_policy",
         {{"default_timeout_microseconds", config.timeout_ms * 1000}, {"max_queue_size", config.batching.max_queue}}}};
  return document;
}

json statistics_json(const Server& server, const std::string& model, const std::string& version) {
  json all = json::array();
  if (!version.empty()) {
    all.push_back(version_statistics(*find_version(server, model, version)));
  } else {
    if (!model.empty()) find_version(server, model, {});
    for (const auto& warm : server.versions(model)) all.push_back(version_statistics(*warm));
  }
  return {{"model_stats", std::move(all)}};
}

json repository_index_json(const Server& server, bool ready_only) {
  json all = json::array();
  for (const IndexEntry& entry : server.index()) {
    if (ready_only && entry.state != "READY") continue;
    json line{{"name", entry.model}, {"state", entry.state}, {"reason", entry.reason}};
    if (entry.version != 0) line["version"] = std::to_string(entry.version);
    all.push_back(std::move(line));
  }
  return all;
}

}  // namespace slipway
