#pragma once
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "train/libtorch.h"

namespace slipway {

/// A training in a file: what it is (`key`, over model, data and options), where it stands, and its tensors.
struct Checkpoint {
  std::string key;
  std::string progress;                       ///< JSON of the trainer
  std::map<std::string, at::Tensor> tensors;  ///< float32
};

/// Whole or not at all. Fails with kIo.
void save_checkpoint(const Checkpoint& checkpoint, const std::string& path);
/// Nothing when there is no file. Fails with kInvalidArgument when it is damaged or another training's.
std::optional<Checkpoint> load_checkpoint(const std::string& path, const std::string& key);

}  // namespace slipway
