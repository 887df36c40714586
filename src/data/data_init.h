#pragma once
#include <string>

namespace slipway {

/// A commented data file (YAML) for what lies in a folder: the format is guessed from names, sizes and first bytes, as
/// are splits, labels and the input's shape; what can't be known stands as a comment. `prefix` is put before every
/// path: empty when the text is saved inside the folder. Fails with kNotFound, saying what was looked for.
std::string data_init_text(const std::string& folder, const std::string& prefix = "");

}  // namespace slipway
