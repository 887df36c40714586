#pragma once
#include <cstdint>
#include <optional>
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

/// model.onnx in a version's folder.
std::string onnx_path(const std::string& version_folder);
/// SHA-256 of report.json in a version's folder; empty when there is none.
std::string report_digest(const std::string& version_folder);

/// NAME/config.yaml; nothing where the defaults do.
std::string model_config_path(const std::string& repository, const std::string& model);
std::optional<std::string> model_config_text(const std::string& repository, const std::string& model);
/// The same as a value, or the defaults. Fail with kInvalidArgument naming file, line and key.
ModelConfig load_model_config(const std::string& repository, const std::string& model);
ModelConfig parse_model_config(const std::string& text, const std::string& path);
/// The defaults as a commented file.
std::string model_config_template();

/// Whoever may write into a repository may not read whatever the server can: fails with kInvalidModel where a file of
/// the version, or the model's configuration, is a symbolic link that leads out of it, unless options.allow_links.
void require_no_way_out(const ServerOptions& options, const std::string& model, int64_t version);

/// Reads a version and makes its plans: the published one where a passed report of these bytes vouches for it and it
/// fits this machine, others from the cache or built into it (into `scratch` where that takes none). Every plan must
/// reproduce the report's probes, if there is a report of these bytes. Runs what the model says, in this process: a
/// server calls prepare_version() instead. Fails with kInvalidModel, kVerificationFailed when the probes miss, ….
VersionSource read_version(const ServerOptions& options, const std::string& model, int64_t version,
                           const ModelConfig& config, const std::string& scratch = {});

/// Where times of candidates are kept between loads; empty where the server keeps nothing.
std::string timings_path(const ServerOptions& options);

/// Builds what a version's program needs for these combinations of input shapes (by input) with all candidates timed,
/// into the cache's plan file of the version, beside what that holds, or into `scratch`; its path. What was timed must
/// give what untimed candidates do, and the report's probes. Runs what the model says, as read_version() does: a server
/// calls time_shapes(). Fails as it, and with kIo where the model is another one by now.
std::string build_timed_shapes(const ServerOptions& options, const std::string& model, int64_t version,
                               const ModelConfig& config, const std::string& sha256,
                               const std::vector<std::vector<Dims>>& shapes, const std::string& scratch);

}  // namespace slipway
