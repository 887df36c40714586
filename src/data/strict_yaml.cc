// YAML with strict keys, over yaml-cpp. Every third-party exception becomes an Error with file and line.
#include "data/strict_yaml.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

constexpr uint64_t kMaxYamlBytes = uint64_t{4} << 20;

std::string place_of(const std::string& path, const YAML::Node& node) {
  return fmt::format("{}:{}", path, node.Mark().line + 1);
}

std::string scalar(const YAML::Node& node, const std::string& place) {
  if (!node.IsScalar()) fail(ErrorCode::kInvalidArgument, "A single value is expected here: {}", place);
  return node.Scalar();
}

template <typename T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

double real_of(const YAML::Node& node, const std::string& place) {
  const std::string text = scalar(node, place);
  const size_t slash = text.find('/');
  double value = 0, divisor = 1;
  const bool ok = parse_number(std::string_view(text).substr(0, slash), value) &&
                  (slash == std::string::npos || parse_number(std::string_view(text).substr(slash + 1), divisor));
  if (!ok || divisor == 0 || !std::isfinite(value / divisor))
    fail(ErrorCode::kInvalidArgument, "A number is expected here: '{}' at {}", text, place);
  return value / divisor;
}

int64_t integer_of(const YAML::Node& node, const std::string& place, int64_t lowest, int64_t highest) {
  const std::string text = scalar(node, place);
  int64_t value = 0;
  if (!parse_number(text, value) || value < lowest || value > highest)
    fail(ErrorCode::kInvalidArgument, "A whole number from {} to {} is expected here: '{}' at {}", lowest, highest,
         text, place);
  return value;
}

/// The node itself, or its elements when it is a list.
std::vector<YAML::Node> elements_of(const YAML::Node& node) {
  if (!node.IsSequence()) return {node};
  return {node.begin(), node.end()};
}

}  // namespace

YAML::Node parse_yaml(const std::string& text, const std::string& path) {
  YAML::Node top;
  try {
    top = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    fail(ErrorCode::kInvalidArgument, "The YAML can't be parsed; correct the line: {}:{}: {}", path, e.mark.line + 1,
         e.msg);
  }
  if (top.IsNull()) return YAML::Node(YAML::NodeType::Map);  // empty, or comments alone
  if (!top.IsMap()) fail(ErrorCode::kInvalidArgument, "The file must consist of `key: value` lines: {}", path);
  return top;
}

YAML::Node load_yaml(const std::string& path) { return parse_yaml(read_text_file(path, kMaxYamlBytes), path); }

StrictMap::StrictMap(YAML::Node node, std::string path, const std::vector<std::string_view>& known)
    : node_(std::move(node)), path_(std::move(path)) {
  if (!node_.IsMap())
    fail(ErrorCode::kInvalidArgument, "`key: value` lines are expected here: {}", place_of(path_, node_));
  std::vector<std::string> seen;
  for (const auto& entry : node_) {
    const std::string key = scalar(entry.first, place_of(path_, entry.first));
    if (std::find(known.begin(), known.end(), key) == known.end())
      fail(ErrorCode::kInvalidArgument, "There is no such key: {}: '{}'; did you mean '{}'? (keys here: {})",
           place_of(path_, entry.first), key, nearest_name(key, known), fmt::join(known, ", "));
    if (std::find(seen.begin(), seen.end(), key) != seen.end())
      fail(ErrorCode::kInvalidArgument, "A key stands twice; keep one: {}: '{}'", place_of(path_, entry.first), key);
    seen.push_back(key);
  }
}

YAML::Node StrictMap::node(std::string_view key) const {
  for (const auto& entry : node_)
    if (entry.first.IsScalar() && entry.first.Scalar() == key) return entry.second;
  return YAML::Node(YAML::NodeType::Undefined);
}

bool StrictMap::has(std::string_view key) const {
  const YAML::Node found = node(key);
  return found.IsDefined() && !found.IsNull();
}

std::string StrictMap::place(std::string_view key) const {
  const YAML::Node found = node(key);
  return found.IsDefined() ? fmt::format("{}: {}", place_of(path_, found), key) : fmt::format("{}: {}", path_, key);
}

std::string StrictMap::text(std::string_view key, std::string fallback) const {
  return has(key) ? scalar(node(key), place(key)) : fallback;
}

std::string StrictMap::choice(std::string_view key, std::string fallback,
                              const std::vector<std::string_view>& choices) const {
  if (!has(key)) return fallback;
  std::string value = text(key);
  if (std::find(choices.begin(), choices.end(), value) == choices.end())
    fail(ErrorCode::kInvalidArgument, "There is no such choice: '{}' at {}; did you mean '{}'? (choices: {})", value,
         place(key), nearest_name(value, choices), fmt::join(choices, ", "));
  return value;
}

bool StrictMap::flag(std::string_view key, bool fallback) const {
  if (!has(key)) return fallback;
  bool value = false;
  if (!YAML::convert<bool>::decode(node(key), value))
    fail(ErrorCode::kInvalidArgument, "true or false is expected here: {}", place(key));
  return value;
}

int64_t StrictMap::integer(std::string_view key, int64_t fallback, int64_t lowest, int64_t highest) const {
  return has(key) ? integer_of(node(key), place(key), lowest, highest) : fallback;
}

double StrictMap::real(std::string_view key, double fallback) const {
  return has(key) ? real_of(node(key), place(key)) : fallback;
}

std::vector<double> StrictMap::reals(std::string_view key) const {
  std::vector<double> values;
  if (has(key))
    for (const auto& element : elements_of(node(key))) values.push_back(real_of(element, place(key)));
  return values;
}

std::vector<int64_t> StrictMap::integers(std::string_view key, int64_t lowest, int64_t highest) const {
  std::vector<int64_t> values;
  if (has(key))
    for (const auto& element : elements_of(node(key)))
      values.push_back(integer_of(element, place(key), lowest, highest));
  return values;
}

std::vector<std::string> StrictMap::texts(std::string_view key) const {
  std::vector<std::string> values;
  if (has(key))
    for (const auto& element : elements_of(node(key))) values.push_back(scalar(element, place(key)));
  return values;
}

std::vector<std::pair<std::string, std::string>> StrictMap::pairs(std::string_view key) const {
  std::vector<std::pair<std::string, std::string>> values;
  if (!has(key)) return values;
  if (!node(key).IsMap()) fail(ErrorCode::kInvalidArgument, "`key: value` lines are expected here: {}", place(key));
  for (const auto& entry : node(key))
    values.emplace_back(scalar(entry.first, place(key)), scalar(entry.second, place(key)));
  return values;
}

StrictMap StrictMap::map(std::string_view key, const std::vector<std::string_view>& known) const {
  return {has(key) ? node(key) : YAML::Node(YAML::NodeType::Map), path_, known};
}

std::string nearest_name(std::string_view name, const std::vector<std::string_view>& candidates, size_t most) {
  name = name.substr(0, 64);
  std::string_view best;
  size_t best_distance = most + 1;
  for (std::string_view candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < name.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i + 1;
      for (size_t j = 0; j < candidate.size(); ++j) {
        const size_t substituted = diagonal + (name[i] != candidate[j]);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, substituted});
      }
    }
    if (row.back() < best_distance) best_distance = row.back(), best = candidate;
  }
  return std::string(best);
}

}  // namespace slipway
