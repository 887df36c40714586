#pragma once
#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

/// Parses a YAML file, whose top is a mapping. Fails with kNotFound, or kInvalidArgument naming file and line.
YAML::Node load_yaml(const std::string& path);
YAML::Node parse_yaml(const std::string& text, const std::string& path);

/// A mapping of a YAML file whose keys are all known: the constructor refuses a wrong key in one sentence that names
/// file, line, key and the nearest right one. The getters give the fallback when the key is absent and fail with
/// kInvalidArgument, naming the place, when the value has another type or lies outside its bounds.
class StrictMap {
 public:
  StrictMap(YAML::Node node, std::string path, const std::vector<std::string_view>& known);

  bool has(std::string_view key) const;
  YAML::Node node(std::string_view key) const;
  std::string text(std::string_view key, std::string fallback = "") const;
  /// One of `choices`.
  std::string choice(std::string_view key, std::string fallback, const std::vector<std::string_view>& choices) const;
  bool flag(std::string_view key, bool fallback) const;
  int64_t integer(std::string_view key, int64_t fallback, int64_t lowest, int64_t highest) const;
  /// A finite number, or a fraction as "1/255".
  double real(std::string_view key, double fallback) const;
  /// A list, or a single value for a list of one; empty when absent.
  std::vector<double> reals(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key, int64_t lowest, int64_t highest) const;
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<std::pair<std::string, std::string>> pairs(std::string_view key) const;
  StrictMap map(std::string_view key, const std::vector<std::string_view>& known) const;
  /// "file:line: key".
  std::string place(std::string_view key) const;
  const std::string& path() const { return path_; }

 private:
  YAML::Node node_;
  std::string path_;
};

/// The candidate at the smallest edit distance (Levenshtein), at most `most`; the first of equals, "" without one.
std::string nearest_name(std::string_view name, const std::vector<std::string_view>& candidates,
                         size_t most = ~size_t{1});

}  // namespace slipway
