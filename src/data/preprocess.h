#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/image.h"
#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

/// From a picture (or a raw array) to a model's input: resize, crop, colour order, value = (x·scale − mean) / std,
/// layout. One schema and one implementation; it travels in the ONNX file's metadata_props.
struct Preprocess {
  std::string input;                            ///< the model's input; empty: the only one
  int64_t resize_shorter = 0;                   ///< shorter side, 0: none
  int64_t resize_width = 0, resize_height = 0;  ///< exact size, 0: none
  std::string interpolation = "bilinear";       ///< nearest, bilinear, bicubic, lanczos, hamming, box: as Pillow's
  int64_t crop_width = 0, crop_height = 0;      ///< centre crop, 0: none
  std::string color = "rgb";                    ///< rgb, bgr, gray
  double scale = 1.0 / 255.0;
  std::vector<double> mean = {}, std = {};  ///< per channel in the output's order, or one for all; empty: 0 and 1
  std::string layout = "nchw";              ///< nchw or nhwc
  std::string dtype = "f32";                ///< the input's element type; empty: an array stays what it is
  bool operator==(const Preprocess&) const = default;
  /// Whether an array's values stay what they are, but for their type.
  bool keeps_values() const { return scale == 1 && mean.empty() && std.empty(); }
};

/// Applies it to a picture; the result has no batch axis: [C,H,W] or [H,W,C]. Fails with kInvalidArgument naming the
/// field that does not fit.
Tensor preprocess_image(const Preprocess& how, const Image& image);
/// Applies scale, mean, std and dtype to an array that is no picture (its dims are kept; the layout says which axis
/// holds the channels). Fails with kInvalidArgument naming the field that does not fit.
Tensor preprocess_array(const Preprocess& how, const Tensor& array);
/// What a black pixel becomes in each of the model's channels. Fails with kInvalidArgument naming the field that does
/// not fit.
std::vector<float> black_pixel(const Preprocess& how, int64_t channels);

/// Writes both into the graph's metadata (keys "slipway.preprocess" and "slipway.labels", JSON).
void store_preprocess(Graph& graph, const Preprocess& how, const std::vector<std::string>& labels);
/// Reads them back; false when the model carries none. Fails with kInvalidModel when damaged.
bool load_preprocess(const Graph& graph, Preprocess& how, std::vector<std::string>& labels);
/// The second of them alone; none where the model carries none.
void store_labels(Graph& graph, const std::vector<std::string>& labels);
std::vector<std::string> load_labels(const Graph& graph);

/// One line of JSON with every field, and back. Fails with kInvalidModel, `name` saying where it came from.
std::string preprocess_json(const Preprocess& how);
Preprocess parse_preprocess_json(const std::string& text, const std::string& name);

/// How two descriptions contradict each other, e.g. "mean is [0.5] in the data file but [0.48] in the model"; empty
/// when they mean the same: numbers within a thousandth, one value for all channels as good as a list, an empty `input`
/// any.
std::string preprocess_difference(const Preprocess& data_file, const Preprocess& model);

}  // namespace slipway
