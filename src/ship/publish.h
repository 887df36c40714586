#pragma once
#include <cstdint>
#include <string>

namespace slipway {

/// What a version consists of; the report's page and the plan may be missing (empty). The model's data files go with
/// it.
struct VersionFiles {
  std::string model, report, page, plan;
};

struct Published {
  int64_t version = 0;
  bool reused = false;  ///< the same bytes were there already
};

/// Fails with kInvalidArgument unless a name can be a model's: letters, digits, '.', '_', '-', not beginning with '.'.
void require_model_name(const std::string& name);

/// Puts a version into REPOSITORY/NAME: copied beside as N.tmp-PID, made durable, then renamed to the next number, so
/// that a server that looks sees all of it or nothing. The same model (ModelIdentity) already there: that version's
/// number, with its report, page and plan brought up to date. Fails with kIo, or as copy_model() does; then nothing is
/// left behind.
Published publish_version(const std::string& repository, const std::string& name, const VersionFiles& files);

}  // namespace slipway
