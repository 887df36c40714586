#pragma once
#include <string>
#include <vector>

#include "load/load_run.h"
#include "load/load_target.h"
#include "load/load_url.h"

namespace slipway {

/// How often a transport looks for requests that ran out of time, and how long it rests after it could not connect.
inline constexpr int64_t kSweepNs = 50'000'000, kRestNs = 100'000'000;

/// The transports. A load sends until the run is over and all requests have ended; the options name the model. Both
/// fail with kIo when the server can't be reached at the start.
void load_over_http(const Url& url, const LoadOptions& options, const std::vector<LoadSample>& samples, LoadRun& run);
void load_over_grpc(const Url& url, const LoadOptions& options, const std::vector<LoadSample>& samples, LoadRun& run);

std::vector<std::string> ready_models_over_grpc(const Url& url, const TlsFiles& tls);
ModelDescription describe_over_grpc(const Url& url, const std::string& model, const std::string& version,
                                    const TlsFiles& tls);

}  // namespace slipway
