// The methods beside inference: health, readiness, metadata, configuration, statistics, repository.
#include "serve/grpc/control.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/visible.h"
#include "health.pb.h"
#include "inference.pb.h"
#include "serve/server.h"

namespace slipway {
namespace {
using Bytes = std::span<const std::byte>;
using Kind = ControlMethod::Kind;
namespace health = grpc::health::v1;

constexpr size_t kMaxRequestBytes =
    1 << 20;  ///< none of them needs more, and a parsed message is larger than its bytes
constexpr const char* kExtensions[] = {"binary_tensor_data", "model_configuration", "model_repository", "parameters",
                                       "statistics"};

inference::DataType data_type(DType type) {
  inference::DataType value = inference::TYPE_INVALID;
  const std::string_view name = type == DType::kString ? "STRING" : datatype_name(type);
  inference::DataType_Parse(fmt::format("TYPE_{}", name), &value);
  return value;
}

/// The version named, else the live one.
ModelVersion& find_version(const Server& server, const std::string& model, const std::string& version,
                           std::shared_ptr<ModelVersion>& keep) {
  if (model.empty()) fail(ErrorCode::kInvalidArgument, "The request names no model; set its name");
  const int64_t live = server.routing(model).stable;
  if (version.empty() && live == 0) {  // warm, not live: still to be looked at
    const auto versions = server.versions(model);
    if (!versions.empty()) return *(keep = versions.back());
  }
  keep = server.target(model, version.empty() ? std::to_string(std::max<int64_t>(live, 1)) : version, {}).version;
  return *keep;
}

void server_live(Server& server, const inference::ServerLiveRequest&, inference::ServerLiveResponse& response) {
  response.set_live(server.live());
}

void server_ready(Server& server, const inference::ServerReadyRequest&, inference::ServerReadyResponse& response) {
  response.set_ready(server.ready());
}

void model_ready(Server& server, const inference::ModelReadyRequest& request, inference::ModelReadyResponse& response) {
  try {
    response.set_ready(server.ready(request.name(), request.version()));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
    response.set_ready(false);
  }
}

void server_metadata(Server&, const inference::ServerMetadataRequest&, inference::ServerMetadataResponse& response) {
  response.set_name("slipway");
  response.set_version(SLIPWAY_VERSION);
  for (const char* extension : kExtensions) response.add_extensions(extension);
}

void model_metadata(Server& server, const inference::ModelMetadataRequest& request,
                    inference::ModelMetadataResponse& response) {
  std::shared_ptr<ModelVersion> keep;
  const ModelVersion& version = find_version(server, request.name(), request.version(), keep);
  response.set_name(version.model());
  for (const auto& v : server.versions(version.model())) response.add_versions(std::to_string(v->version()));
  response.set_platform("onnx");
  const auto add = [](const std::vector<Port>& ports, auto* tensors) {
    for (const Port& port : ports) {
      auto* tensor = tensors->Add();
      tensor->set_name(port.name);
      tensor->set_datatype(std::string(datatype_name(port.dtype)));
      for (int64_t d : port.dims) tensor->add_shape(d);
    }
  };
  add(version.inputs(), response.mutable_inputs());
  add(version.outputs(), response.mutable_outputs());
}

void model_config(Server& server, const inference::ModelConfigRequest& request,
                  inference::ModelConfigResponse& response) {
  std::shared_ptr<ModelVersion> keep;
  const ModelVersion& version = find_version(server, request.name(), request.version(), keep);
  inference::ModelConfig& config = *response.mutable_config();
  config.set_name(version.model());
  config.set_platform("onnx");
  config.set_backend("slipway");
  config.set_default_model_filename("model.onnx");
  config.mutable_version_policy()->mutable_all();
  const int64_t max_rows =
      version.batching().along_first() ? std::min<int64_t>(version.max_rows(), std::numeric_limits<int32_t>::max()) : 0;
  config.set_max_batch_size(static_cast<int32_t>(max_rows));
  const auto add = [&](const std::vector<Port>& ports, auto* tensors) {
    for (const Port& port : ports) {
      auto* tensor = tensors->Add();
      tensor->set_name(port.name);
      tensor->set_data_type(data_type(port.dtype));
      for (size_t i = max_rows > 0 ? 1 : 0; i < port.dims.size(); ++i) tensor->add_dims(port.dims[i]);
    }
  };
  add(version.inputs(), config.mutable_input());
  add(version.outputs(), config.mutable_output());
  auto* group = config.add_instance_group();
  group->set_name(version.model() + "_0");
  group->set_kind(inference::ModelInstanceGroup::KIND_CPU);
  group->set_count(version.config().instances);
  if (max_rows > 1)
    config.mutable_dynamic_batching()->set_max_queue_delay_microseconds(
        static_cast<uint64_t>(version.config().batching.delay_us));
}

void set_duration(inference::StatisticDuration* duration, int64_t count, int64_t us) {
  duration->set_count(static_cast<uint64_t>(count));
  duration->set_ns(static_cast<uint64_t>(us) * 1000);
}

void add_statistics(const ModelVersion& version, inference::ModelStatistics& statistics) {
  const VersionMetrics& metrics = version.metrics();
  statistics.set_name(version.model());
  statistics.set_version(std::to_string(version.version()));
  statistics.set_last_inference(static_cast<uint64_t>(metrics.last_inference_ms.load()));
  statistics.set_execution_count(static_cast<uint64_t>(metrics.executions.load()));
  int64_t rows = 0, failed = 0;
  Histogram queue, compute, total;
  for (const VariantMetrics& variant : metrics.variants) {
    const VariantSnapshot counted = snapshot(variant);
    rows += counted.rows;
    for (int64_t errors : counted.errors) failed += errors;
    queue.merge(counted.queue_us);
    compute.merge(counted.compute_us);
    total.merge(counted.total_us);
  }
  statistics.set_inference_count(static_cast<uint64_t>(rows));
  inference::InferStatistics& infer = *statistics.mutable_inference_stats();
  set_duration(infer.mutable_success(), total.count(), total.sum());
  set_duration(infer.mutable_fail(), failed, 0);
  set_duration(infer.mutable_queue(), queue.count(), queue.sum());
  set_duration(infer.mutable_compute_input(), compute.count(), 0);  // gathering counts as computing
  set_duration(infer.mutable_compute_infer(), compute.count(), compute.sum());
  set_duration(infer.mutable_compute_output(), compute.count(), 0);
  infer.mutable_cache_hit();
  infer.mutable_cache_miss();
  const Histogram batches = metrics.batch_rows.snapshot();
  for (size_t i = 0; i < batches.counts().size(); ++i)
    if (batches.counts()[i] > 0) {
      auto* batch = statistics.add_batch_stats();
      batch->set_batch_size(static_cast<uint64_t>(LogBuckets::highest(i)));
      batch->mutable_compute_infer()->set_count(static_cast<uint64_t>(batches.counts()[i]));
    }
  auto* memory = statistics.add_memory_usage();
  memory->set_type("CPU");
  memory->set_byte_size(version.memory_bytes());
}

void model_statistics(Server& server, const inference::ModelStatisticsRequest& request,
                      inference::ModelStatisticsResponse& response) {
  std::shared_ptr<ModelVersion> keep;
  if (!request.version().empty())
    return add_statistics(find_version(server, request.name(), request.version(), keep), *response.add_model_stats());
  if (!request.name().empty()) find_version(server, request.name(), {}, keep);
  for (const auto& version : server.versions(request.name())) add_statistics(*version, *response.add_model_stats());
}

void repository_index(Server& server, const inference::RepositoryIndexRequest& request,
                      inference::RepositoryIndexResponse& response) {
  for (const IndexEntry& entry : server.index()) {
    if (request.ready() && entry.state != "READY") continue;
    auto* model = response.add_models();
    model->set_name(visible(entry.model));
    if (entry.version != 0) model->set_version(std::to_string(entry.version));
    model->set_state(entry.state);
    model->set_reason(visible(entry.reason));
  }
}

template <typename Request>
void check_parameters(const Request& request) {
  if (request.model_name().empty()) fail(ErrorCode::kInvalidArgument, "The request names no model; set model_name");
  for (const auto& [name, value] : request.parameters())
    if (name == "config" || name.starts_with("file:"))
      fail(ErrorCode::kInvalidArgument,
           "Models and their configuration come from the repository alone; put them there: parameter '{}'", name);
}

void repository_load(Server& server, const inference::RepositoryModelLoadRequest& request,
                     inference::RepositoryModelLoadResponse&) {
  check_parameters(request);
  server.load(request.model_name());
}

void repository_unload(Server& server, const inference::RepositoryModelUnloadRequest& request,
                       inference::RepositoryModelUnloadResponse&) {
  check_parameters(request);
  server.unload(request.model_name());
}

void check_health(Server& server, const health::HealthCheckRequest& request, health::HealthCheckResponse& response) {
  if (!request.service().empty() && request.service() != "inference.GRPCInferenceService")
    fail(ErrorCode::kNotFound, "There is no such service; ask for inference.GRPCInferenceService or none: '{}'",
         request.service());
  response.set_status(server.ready() ? health::HealthCheckResponse::SERVING : health::HealthCheckResponse::NOT_SERVING);
}

template <auto method>
struct Wired;
template <typename Request, typename Response, void (*method)(Server&, const Request&, Response&)>
struct Wired<method> {
  static std::string answer(Server& server, Bytes bytes) {
    Request request;
    if (bytes.size() > kMaxRequestBytes || !request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      fail(ErrorCode::kInvalidArgument, "The message is no {} of at most {} bytes; encode it with Protocol Buffers",
           request.GetTypeName(), kMaxRequestBytes);
    Response response;
    method(server, request, response);
    return response.SerializeAsString();
  }
};

#define SLIPWAY_INFERENCE "/inference.GRPCInferenceService/"
constexpr ControlMethod kMethods[] = {
    {SLIPWAY_INFERENCE "ServerLive", Kind::kQuick, Wired<server_live>::answer},
    {SLIPWAY_INFERENCE "ServerReady", Kind::kQuick, Wired<server_ready>::answer},
    {SLIPWAY_INFERENCE "ModelReady", Kind::kQuick, Wired<model_ready>::answer},
    {SLIPWAY_INFERENCE "ServerMetadata", Kind::kQuick, Wired<server_metadata>::answer},
    {SLIPWAY_INFERENCE "ModelMetadata", Kind::kQuick, Wired<model_metadata>::answer},
    {SLIPWAY_INFERENCE "ModelConfig", Kind::kQuick, Wired<model_config>::answer},
    {SLIPWAY_INFERENCE "ModelStatistics", Kind::kQuick, Wired<model_statistics>::answer},
    {SLIPWAY_INFERENCE "RepositoryIndex", Kind::kQuick, Wired<repository_index>::answer},
    {SLIPWAY_INFERENCE "RepositoryModelLoad", Kind::kLoading, Wired<repository_load>::answer},
    {SLIPWAY_INFERENCE "RepositoryModelUnload", Kind::kLoading, Wired<repository_unload>::answer},
    {"/grpc.health.v1.Health/Check", Kind::kQuick, Wired<check_health>::answer},
};
}  // namespace

const ControlMethod* find_control_method(std::string_view path) {
  const auto* found = std::find_if(std::begin(kMethods), std::end(kMethods),
                                   [&](const ControlMethod& method) { return method.path == path; });
  return found == std::end(kMethods) ? nullptr : found;
}

}  // namespace slipway
