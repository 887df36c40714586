// Calibration files: one JSON object; per tensor count, zeros, exact range and the histogram's used bins.
#include "quantize/calibrate/calibration.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {
constexpr std::string_view kFormat = "slipway.calibration.1";
}

void Calibration::merge(const Calibration& other) {
  if (data_digest != other.data_digest)
    fail(ErrorCode::kInvalidArgument,
         "Calibrations of different data sets can't be merged; calibrate the shards of one set: digest {} against {}",
         data_digest, other.data_digest);
  if (tensors.size() != other.tensors.size())
    fail(ErrorCode::kInvalidArgument,
         "Calibrations of different models can't be merged; use the same model and options: {} tensors against {}",
         tensors.size(), other.tensors.size());
  for (const auto& [name, stats] : other.tensors)
    if (!tensors.contains(name))
      fail(ErrorCode::kInvalidArgument,
           "Calibrations of different models can't be merged; use the same model and options: no tensor '{}'", name);
  for (const auto& [name, stats] : other.tensors) tensors.find(name)->second.merge(stats);
  samples += other.samples;
}

size_t Calibration::bytes() const {
  size_t sum = 0;
  for (const auto& [name, stats] : tensors) sum += stats.bytes();
  return sum;
}

void save_calibration(const Calibration& calibration, const std::string& path) {
  nlohmann::json tensors = nlohmann::json::object();
  for (const auto& [name, stats] : calibration.tensors) tensors[name] = stats.to_json();
  const nlohmann::json json = {{"format", kFormat},
                               {"samples", calibration.samples},
                               {"data_digest", calibration.data_digest},
                               {"tensors", std::move(tensors)}};
  write_file(path, json.dump() + "\n");
}

Calibration load_calibration(const std::string& path) {
  const std::string text = read_text_file(path, uint64_t{1} << 30);
  std::string place = "the top level";
  try {
    const auto json = nlohmann::json::parse(text);
    if (json.at("format").get<std::string>() != kFormat)
      fail(ErrorCode::kInvalidArgument, "its format is not {}", kFormat);
    Calibration calibration;
    calibration.samples = json.at("samples").get<int64_t>();
    calibration.data_digest = json.at("data_digest").get<std::string>();
    for (const auto& [name, stats] : json.at("tensors").items()) {
      place = "tensor '" + name + "'";
      calibration.tensors.emplace(name, TensorStats::from_json(stats));
    }
    return calibration;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kInvalidArgument, "A calibration file can't be read; calibrate again: {} at {}: {}", path, place,
         error.what());
  } catch (const Error& error) {
    fail(ErrorCode::kInvalidArgument, "A calibration file can't be read; calibrate again: {} at {}: {}", path, place,
         error.what());
  }
}

}  // namespace slipway
