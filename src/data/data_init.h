#pragma once
#include <span>
#include <string>

#include "data/feed.h"

namespace slipway {

/// A commented data file (YAML) for what lies in a folder: the format is guessed from names, sizes and first bytes, as
/// are splits, labels and the input's shape; what can't be known stands as a comment. `prefix` is put before every
/// path: empty when the text is saved inside the folder. `ports` are the inputs of the model that it is for, empty
/// where none is known; of several each is described by its name. Fails with kNotFound, saying what was looked for.
std::string data_init_text(const std::string& folder, const std::string& prefix = "",
                           std::span<const FeedPort> ports = {});

}  // namespace slipway
