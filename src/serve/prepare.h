#pragma once
#include <functional>
#include <optional>
#include <string>

#include "serve/model_version.h"
#include "serve/server.h"

namespace slipway {

/// Makes a version of the repository ready to serve: a process of its own (ServerOptions::program) imports it, builds
/// its plans into the cache, holds them against the report's probes, runs and times them; this one opens the plans that
/// came of it. So a model that crashes, hangs or eats memory is refused, and whatever else is served goes on. Nothing
/// when bytes, report and configuration are those of `loaded`. `keep_going` is asked ten times a second. Fails as
/// read_version() does; with kUnsupported when the process dies or needs more memory than it may have, kDeadline when
/// it takes too long, kInterrupted when it is not to go on, kOutOfMemory when what it made does not fit into memory.
std::optional<VersionSource> prepare_version(const ServerOptions& options, const std::string& model, int64_t version,
                                             const VersionSource* loaded, const std::function<bool()>& keep_going);

/// Times the candidates for these combinations of input shapes of a version in such a process, and lets the version's
/// program take over what came of it. Fails as prepare_version() does; kIo where model or configuration changed since.
void time_shapes(const ServerOptions& options, const ModelVersion& version,
                 const std::vector<std::vector<Dims>>& shapes, const std::function<bool()>& keep_going);

/// The other end, the verb `prepare`: a job on standard input, the answer on standard output.
void run_preparation();

}  // namespace slipway
