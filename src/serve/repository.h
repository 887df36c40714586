#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "serve/model_version.h"
#include "serve/server.h"

namespace slipway {

/// A model repository: NAME/VERSION/model.onnx, with report.json and model.plan beside it when published, and
/// NAME/config.yaml where the defaults do not do. VERSION is a positive number without leading zeros; anything else in
/// there is left alone.
std::vector<std::string> repository_models(const std::string& repository);
std::vector<int64_t> repository_versions(const std::string& repository, const std::string& model);
std::string version_folder(const std::string& repository, const std::string& model, int64_t version);

/// NAME/config.yaml, or the defaults. Fails with kInvalidArgument naming file, line and key.
ModelConfig load_model_config(const std::string& repository, const std::string& model);
ModelConfig parse_model_config(const std::string& text, const std::string& path);
/// The defaults as a commented file.
std::string model_config_template();

/// Reads a version and makes its plans: the published one where it fits this machine, others from the cache or built
/// into it. A plan that is not the one that was verified must reproduce the Report's probes. Fails with kInvalidModel,
/// kVerificationFailed when the probes miss, ….
VersionSource read_version(const ServerOptions& options, const std::string& model, int64_t version);

}  // namespace slipway
