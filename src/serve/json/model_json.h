#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "serve/server.h"

namespace slipway {

// The protocol's JSON documents about servers and models.
nlohmann::json server_metadata_json();
/// Fails with kNotFound. `version` empty: the live one.
nlohmann::json model_metadata_json(const Server& server, const std::string& model, const std::string& version);
/// Triton's ModelConfig: what perf_analyzer reads (max_batch_size, dynamic_batching, inputs and outputs).
nlohmann::json model_config_json(const Server& server, const std::string& model, const std::string& version);
/// Triton's statistics; of all models without a name.
nlohmann::json statistics_json(const Server& server, const std::string& model = {}, const std::string& version = {});
nlohmann::json repository_index_json(const Server& server, bool ready_only);

}  // namespace slipway
