// The contact sheet of a data set: what its samples look like, how they are labelled and what the model is given.
#include "data/preview.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/base64.h"
#include "base/error.h"

namespace slipway {
namespace {

constexpr int64_t kThumbnailSide = 96;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string capitalised(std::string_view word) {
  std::string out(word);
  out[0] = static_cast<char>(out[0] - 'a' + 'A');
  return out;
}

/// An array as grey levels between its extremes: its last axis of more than one element across, the others down.
Image heat_map(const Tensor& array) {
  const std::vector<double> values = to_doubles(array);
  int64_t width = 1;
  for (size_t axis = array.dims().size(); axis-- > 0 && width == 1;) width = array.dims()[axis];
  const int64_t columns = std::clamp<int64_t>(width, 1, 1024);
  const int64_t rows = std::clamp<int64_t>(array.elements() / std::max<int64_t>(width, 1), 1, 1024);
  Image image{rows, columns, 1, std::vector<uint8_t>(static_cast<size_t>(rows * columns))};
  double low = INFINITY, high = -INFINITY;
  for (const double v : values)
    if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x) {
      const auto from = static_cast<size_t>(y * width + x);
      const double v = from < values.size() && std::isfinite(values[from]) ? values[from] : low;
      image.pixels[static_cast<size_t>(y * columns + x)] =
          high > low ? static_cast<uint8_t>(255 * (v - low) / (high - low)) : 0;
    }
  return image;
}

Image thumbnail(const Dataset& data, Split split, int64_t index) {
  size_t input = 0;  // the first picture, else the first input
  while (input + 1 < data.inputs() && !data.is_image(input)) ++input;
  if (!data.is_image(input)) input = 0;
  const Image image = data.is_image(input) ? data.image(split, index, input) : heat_map(data.input(split, index));
  const int64_t longer = std::max(image.height, image.width);
  const auto side = [&](int64_t length) { return std::max<int64_t>(1, length * kThumbnailSide / longer); };
  return resize_image(image, side(image.height), side(image.width), longer < kThumbnailSide ? "nearest" : "bilinear");
}

std::string remark_on(const Dataset& data, const InputStatistics& s, size_t input) {
  if (s.not_finite > 0) return fmt::format("{} values are NaN or infinite", s.not_finite);
  const bool alone = data.inputs() == 1;  // a mask among other inputs may well be all ones
  if (s.min == s.max && (alone || data.is_image(input))) return "all values are equal: are these the samples?";
  if (!data.is_image(input) || data.preprocess(input).dtype[0] != 'f') return "";
  if (s.max > 20)
    return "values far above 1: right only for a model trained on such, or one that scales inside; others expect 0..1 "
           "or "
           "a mean near 0 (scale, mean, std)";
  if (s.max < 0.05 && s.min > -0.05) return "values are all near 0: scaled twice? check scale";
  return "";
}

std::string classes_text(const Dataset& data, Split split) {
  std::map<int64_t, int64_t> counts;
  for (int64_t i = 0; i < data.size(split); ++i) ++counts[data.label(split, i)];
  if (counts.empty() || counts.begin()->first < 0) return "no labels";
  int64_t fewest = INT64_MAX, most = 0;
  for (const auto& [label, count] : counts) fewest = std::min(fewest, count), most = std::max(most, count);
  const std::string spread = fewest == most ? std::to_string(most) : fmt::format("{} to {}", fewest, most);
  return fmt::format("{} classes with {} samples each", counts.size(), spread);
}

/// By input.
std::vector<InputStatistics> all_statistics(const Dataset& data, Split split, int64_t count) {
  std::vector<InputStatistics> all;
  for (size_t input = 0; input < data.inputs(); ++input) all.push_back(input_statistics(data, split, count, input));
  return all;
}

/// A line for each input.
std::vector<std::string> range_texts(const Dataset& data, const std::vector<InputStatistics>& all) {
  std::vector<std::string> lines;
  for (size_t input = 0; input < all.size(); ++input) {
    const InputStatistics& s = all[input];
    const std::string& name = data.input_name(input);
    lines.push_back(fmt::format("input {}{}{} from {:.4g} to {:.4g}, mean {:.4g}, std {:.4g} (over {} samples){}", name,
                                name.empty() ? "" : " ", to_string(s.dims), s.min, s.max, s.mean, s.std, s.samples,
                                s.sizes > 1 ? fmt::format(", {} different shapes", s.sizes) : ""));
  }
  for (const ConstantInput& constant : data.constants())
    lines.push_back(fmt::format("input {} is {:g} in all samples", constant.name, constant.value));
  return lines;
}

/// Dataset::warnings() and the remarks.
std::vector<std::string> warnings_of(const Dataset& data, const std::vector<InputStatistics>& all) {
  std::vector<std::string> warnings = data.warnings();
  for (size_t input = 0; input < all.size(); ++input)
    if (!all[input].remark.empty())
      warnings.push_back(all.size() == 1
                             ? "the model's input: " + all[input].remark
                             : fmt::format("the model's input '{}': {}", data.input_name(input), all[input].remark));
  return warnings;
}

int64_t shown_count(const Dataset& data, Split split, int64_t count) {
  return std::clamp<int64_t>(count, 0, std::min(data.size(split), kMaxPreviewSamples));
}

struct Shown {
  int64_t index, label, prediction;  ///< −1: none
  bool wrong() const { return label >= 0 && prediction >= 0 && label != prediction; }
};

std::vector<Shown> shown_samples(const Dataset& data, Split split, int64_t count,
                                 std::span<const int64_t> predictions) {
  std::vector<Shown> shown;
  const int64_t total = shown_count(data, split, count);
  for (int64_t i = 0; i < total; ++i) {
    const int64_t index = preview_index(data, split, count, i);
    const bool predicted = i < static_cast<int64_t>(predictions.size());
    shown.push_back({index, data.label(split, index), predicted ? predictions[static_cast<size_t>(i)] : -1});
  }
  return shown;
}

}  // namespace

int64_t preview_index(const Dataset& data, Split split, int64_t count, int64_t i) {
  const int64_t total = shown_count(data, split, count);
  return total == 0 ? 0 : i * data.size(split) / total;
}

std::string class_label(const Dataset& data, int64_t label) {
  if (label < 0) return "-";
  const auto& names = data.class_names();
  const auto at = static_cast<size_t>(label);
  return at < names.size() && !names[at].empty() ? fmt::format("{} ({})", label, names[at]) : std::to_string(label);
}

InputStatistics input_statistics(const Dataset& data, Split split, int64_t count, size_t which) {
  InputStatistics s;
  std::set<Dims> shapes;
  s.samples = shown_count(data, split, count);
  double sum = 0, squares = 0, finite = 0;
  s.min = INFINITY, s.max = -INFINITY;
  for (int64_t i = 0; i < s.samples; ++i) {
    const Tensor input = data.input(split, preview_index(data, split, count, i), which);
    if (i == 0) s.dims = input.dims();
    shapes.insert(input.dims());
    s.values += input.elements();
    for (const double v : to_doubles(input)) {
      if (!std::isfinite(v)) {
        ++s.not_finite;
        continue;
      }
      s.min = std::min(s.min, v);
      s.max = std::max(s.max, v);
      sum += v;
      squares += v * v;
      ++finite;
    }
  }
  if (finite == 0) s.min = s.max = 0;
  s.mean = finite == 0 ? 0 : sum / finite;
  s.std = finite == 0 ? 0 : std::sqrt(std::max(0.0, squares / finite - s.mean * s.mean));
  s.sizes = static_cast<int64_t>(shapes.size());
  if (s.values > 0) s.remark = remark_on(data, s, which);
  return s;
}

std::vector<std::string> input_warnings(const Dataset& data, Split split) {
  constexpr int64_t kLookedAt = 200;
  return warnings_of(data, all_statistics(data, split, kLookedAt));
}

std::string contact_sheet_html(const Dataset& data, Split split, int64_t count, std::span<const int64_t> predictions) {
  const std::vector<InputStatistics> statistics = all_statistics(data, split, count);
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title>\n<style>\n"
      "body{{font:14px system-ui,sans-serif;margin:2em;color:#222;background:#fff}}\n"
      "main{{display:flex;flex-wrap:wrap;gap:10px}}\n"
      "figure{{margin:0;width:120px;padding:6px;border:2px solid #ddd;border-radius:6px;text-align:center;"
      "overflow-wrap:anywhere}}\n"
      "figure.wrong{{border-color:#c33}} figure.right{{border-color:#3a3}}\n"
      "img{{height:{1}px;max-width:108px;object-fit:contain;image-rendering:pixelated}} small{{color:#777}}\n"
      ".remark{{color:#c33;font-weight:600}}\n</style>\n<h1>{0}</h1>\n<p>{2} split: {3} samples, {4}.<br>{5}.</p>\n",
      escaped(data.path()), kThumbnailSide, capitalised(to_string(split)), data.size(split), classes_text(data, split),
      escaped(fmt::format("{}", fmt::join(range_texts(data, statistics), "; "))));
  for (const std::string& warning : warnings_of(data, statistics))
    html += "<p class=\"remark\">" + escaped(warning) + "</p>\n";
  html += "<main>\n";
  for (const Shown& sample : shown_samples(data, split, count, predictions)) {
    const std::string name = escaped(data.sample_name(split, sample.index));
    html += fmt::format(
        "<figure{}><img alt=\"\" title=\"{}\" src=\"data:image/png;base64,{}\"><figcaption>{}{}<br><small>{}</small>"
        "</figcaption></figure>\n",
        sample.prediction < 0 || sample.label < 0 ? ""
        : sample.wrong()                          ? " class=\"wrong\""
                                                  : " class=\"right\"",
        name, base64_encode(encode_png(thumbnail(data, split, sample.index))), escaped(class_label(data, sample.label)),
        sample.prediction < 0 ? "" : "<br>model: " + escaped(class_label(data, sample.prediction)), name);
  }
  return html + "</main></html>\n";
}

std::string contact_sheet_text(const Dataset& data, Split split, int64_t count, std::span<const int64_t> predictions,
                               size_t rows) {
  std::string text =
      fmt::format("{} split: {} samples, {}\n{}\n", to_string(split), data.size(split), classes_text(data, split),
                  fmt::join(range_texts(data, all_statistics(data, split, count)), "\n"));
  std::vector<Shown> samples = shown_samples(data, split, count, predictions);
  samples.resize(std::min(samples.size(), rows));
  for (const Shown& sample : samples)
    text += fmt::format("  {:<40} {}{}\n", data.sample_name(split, sample.index), class_label(data, sample.label),
                        sample.prediction < 0 ? ""
                                              : fmt::format("  model: {}{}", class_label(data, sample.prediction),
                                                            sample.wrong() ? "  WRONG" : ""));
  return text;
}

}  // namespace slipway
