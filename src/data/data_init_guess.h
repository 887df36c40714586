#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/feed.h"
#include "data/sample_source.h"

namespace slipway {

/// A folder that is looked at; `prefix` comes before every path of the data file.
struct DataFolder {
  std::string path, prefix;
  std::vector<std::string> files, folders;
  std::string named(const std::string& name) const;
  static DataFolder list(const std::string& path, const std::string& prefix);
};

/// What lies in it, as lines of a data file.
struct DataGuess {
  std::string head;               ///< the YAML of the format, and of the source when both splits share it
  std::string calibration, test;  ///< the indented lines of each split's own source; empty: shared
  SourceDescription calibration_source, test_source;
  std::string classes;
};

bool is_picture_file(const std::string& name);
/// A YAML text, quoted where it needs to be.
std::string yaml_text(const std::string& text);
/// The likeliest of `names` for labels (or for inputs); empty: none.
std::string likely_name(const std::vector<std::string>& names, bool labels);
/// How many rows an array has; 0 for a scalar.
int64_t rows_of_array(const Tensor& array);

/// Each looks for one layout; nothing where it is another.
std::optional<DataGuess> guess_arrays(const DataFolder& folder);        ///< .npz, .npy with a row a sample
std::optional<DataGuess> guess_array_files(const DataFolder& folder);   ///< .npy files of a sample each, any shapes
std::optional<DataGuess> guess_listed_files(const DataFolder& folder);  ///< a CSV that names files
std::optional<DataGuess> guess_table(const DataFolder& folder);         ///< a CSV of numbers

/// The keys of `preprocess` that a model's input for pictures asks for, as far as its type and shape say.
std::string picture_keys(const FeedPort& port);

/// `inputs`, and labels where they were found, for a model with several. `samples`: how many there are. Fails with
/// kNotFound where nothing fits.
std::string named_inputs_text(const DataFolder& folder, std::span<const FeedPort> ports, int64_t& samples);

}  // namespace slipway
