#pragma once
#include <string>
#include <vector>

#include "serve/model_version.h"
#include "serve/tls.h"

namespace slipway {

/// What a server says of a model.
struct ModelDescription {
  std::string name;
  std::vector<Port> inputs;
};
/// Fails with kIo when the server can't be reached, kNotFound.
ModelDescription describe_model(const std::string& url, const std::string& model, const std::string& version = {},
                                const TlsFiles& tls = {});
/// Names of the models that are ready, sorted.
std::vector<std::string> ready_models(const std::string& url, const TlsFiles& tls = {});
/// The only model that is ready. Fails with kInvalidArgument listing them when there are several, kNotFound when none.
std::string only_model(const std::string& url, const TlsFiles& tls = {});

}  // namespace slipway
