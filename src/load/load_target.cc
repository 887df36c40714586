// What a server says of itself before a load: over HTTP here, over gRPC beside its load.
#include "load/load_target.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/url.h"
#include "load/transport.h"
#include "serve/admin/admin_client.h"

namespace slipway {
namespace {

constexpr int64_t kTimeoutMs = 5000;

nlohmann::json control(const Url& url, const TlsFiles& tls, const std::string& method, const std::string& path,
                       const std::string& body) {
  const std::string base = (url.tls() ? "https://" : "http://") + url.authority();
  const AdminReply reply = admin_call(base, method, path, body, {}, kTimeoutMs, tls);
  const nlohmann::json j = nlohmann::json::parse(reply.body, nullptr, false);
  if (reply.status != 200) {
    const std::string said = j.is_object() ? j.value("error", reply.body) : reply.body;
    fail(reply.status == 404 || reply.status == 400 ? ErrorCode::kNotFound : ErrorCode::kIo,
         "The server refused; check the port and the model's name: {} {}: {} {}", method, path, reply.status,
         said.substr(0, 300));
  }
  if (j.is_discarded())
    fail(ErrorCode::kIo, "The server's answer is no JSON; check that the URL is its data port: {} {}", method, path);
  return j;
}

template <typename Read>
auto read_control(const std::string& path, Read&& read) {
  try {
    return read();
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kIo, "The server's answer is not the protocol's; check that the URL is its data port: {}: {}", path,
         error.what());
  }
}

std::vector<std::string> ready_models_over_http(const Url& url, const TlsFiles& tls) {
  const std::string path = "/v2/repository/index";
  const nlohmann::json index = control(url, tls, "POST", path, R"({"ready": true})");
  return read_control(path, [&] {
    std::vector<std::string> names;
    for (const auto& entry : index)
      if (entry.value("state", "READY") == "READY") names.push_back(entry.at("name").get<std::string>());
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
  });
}

ModelDescription describe_over_http(const Url& url, const std::string& model, const std::string& version,
                                    const TlsFiles& tls) {
  const std::string path =
      "/v2/models/" + percent_encode(model) + (version.empty() ? "" : "/versions/" + percent_encode(version));
  const nlohmann::json j = control(url, tls, "GET", path, {});
  return read_control(path, [&] {
    ModelDescription description{j.at("name").get<std::string>(), {}};
    for (const auto& input : j.at("inputs"))
      description.inputs.push_back({input.at("name").get<std::string>(),
                                    parse_datatype(input.at("datatype").get<std::string>()),
                                    input.at("shape").get<Dims>()});
    return description;
  });
}

}  // namespace

std::vector<std::string> ready_models(const std::string& url, const TlsFiles& tls) {
  const Url target = parse_load_url(url);
  return is_grpc(target) ? ready_models_over_grpc(target, tls) : ready_models_over_http(target, tls);
}

ModelDescription describe_model(const std::string& url, const std::string& model, const std::string& version,
                                const TlsFiles& tls) {
  const Url target = parse_load_url(url);
  return (is_grpc(target) ? describe_over_grpc : describe_over_http)(target, model, version, tls);
}

std::string only_model(const std::string& url, const TlsFiles& tls) {
  const std::vector<std::string> models = ready_models(url, tls);
  if (models.size() == 1) return models[0];
  if (models.empty())
    fail(ErrorCode::kNotFound, "No model is ready there; look at the server's log or its admin page: {}", url);
  std::string names;
  for (const std::string& name : models) names += (names.empty() ? "" : ", ") + name;
  fail(ErrorCode::kInvalidArgument, "Several models are ready there; choose one with --model: {}", names);
}

}  // namespace slipway
