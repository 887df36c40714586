#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/preprocess.h"
#include "data/sample_source.h"

namespace slipway {

/// One split as the data file says it.
struct SplitDescription {
  bool exists = false;
  std::vector<SourceDescription> sources;  ///< by DataFile::inputs
  int64_t count = -1;                      ///< −1: all
  uint64_t seed = 0;
};

/// An input of the model that the samples fill.
struct InputDescription {
  std::string name;  ///< empty: the model's only one
  Preprocess preprocess = {};
  bool has_scale = false;    ///< `scale` was given; otherwise pictures take 1/255, arrays 1
  bool keeps_dtype = false;  ///< arrays stay of their type: a named input without `dtype`
};

inline constexpr int64_t kMaxConstant = 1 << 24;  ///< elements

/// An input of the model that is the same for all samples.
struct ConstantInput {
  std::string name;
  double value = 0;
  Dims dims;         ///< of a sample; empty: what the model says
  std::string like;  ///< the input whose size it has, sample by sample; empty: none
};

/// A parsed data file; paths are joined to the file's folder.
struct DataFile {
  SplitDescription calibration, test, train;
  std::vector<InputDescription> inputs;      ///< at least one
  std::vector<ConstantInput> constants;      ///< inputs that are the same for all samples
  std::vector<std::string> classes;          ///< by index of the model's output
  std::map<std::string, int64_t> label_map;  ///< the data's label → the model's
  int64_t label_offset = 0;                  ///< added to numeric labels
  std::optional<Augment> augment;            ///< as given, if it was
  bool skip_bad_samples = false;             ///< `on_bad_sample: skip`
};

/// The keys `preprocess` (a mapping) and `classes` (a list, or a text file with one name a line, its path relative to
/// `folder`) of a YAML file that may have them. Both fail with kInvalidArgument naming the place.
class StrictMap;
Preprocess read_preprocess(const StrictMap& top);
std::vector<std::string> read_class_names(const StrictMap& top, const std::string& folder);

/// Parses the YAML of a data file (docs: `slipway data init`). Opens only the file of class names, if one is named.
/// Fails with kInvalidArgument naming file, line and key.
DataFile parse_data_file(const std::string& text, const std::string& path);

}  // namespace slipway
