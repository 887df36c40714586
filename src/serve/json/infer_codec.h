#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/model_version.h"
#include "serve/protocol.h"

namespace slipway {

/// Which outputs the caller wants in binary, and of which the best classes alone.
struct OutputEncoding {
  struct Classes {
    int64_t count;
    bool by_row;  ///< of each row of the first axis
  };
  bool all_binary = false;
  std::map<std::string, bool, std::less<>> binary = {};      ///< by output, over all_binary
  std::map<std::string, Classes, std::less<>> classes = {};  ///< by output: parameter "classification"
  std::vector<std::string> labels = {};                      ///< of the model, when there are classes
};

struct DecodedInfer {
  InferRequest request;
  OutputEncoding encoding;
  int64_t timeout_us = 0;        ///< parameter "timeout"; 0: none
  std::string sticky_parameter;  ///< value of the parameter that the model's configuration names
};

/// An infer request's body, JSON alone or JSON followed by binary tensors (`header_bytes` of JSON, from
/// Inference-Header-Content-Length; 0 is a raw tensor of the model's only input). `owner` keeps `body` alive; the
/// tensors point into it where they can. `body` is followed by kBodyPadding readable bytes. Fails with kInvalidArgument
/// naming the place: bad JSON, nesting, sizes that lie, numbers out of range for the type, NaN, unknown parameters'
/// types; with kUnsupported for shared memory. Whether the tensors suit the model is checked by ModelVersion::submit().
inline constexpr size_t kBodyPadding = 64;
DecodedInfer decode_infer(std::span<const std::byte> body, std::optional<size_t> header_bytes,
                          std::shared_ptr<const void> owner, const ModelVersion& version);

/// A response's body: the JSON, then each tensor's bytes.
struct EncodedInfer {
  std::string json;
  bool binary = false;  ///< Inference-Header-Content-Length: json.size() is to be sent
  std::vector<std::span<const std::byte>> tail;
  std::shared_ptr<const void> owner;  ///< keeps the bytes of `tail` alive
};
/// NaN and infinities, which JSON has not, are written as null. FP16 and BF16 go out binary or as numbers. Fails with
/// kInvalidArgument for a BYTES output that is no UTF-8 and not wanted in binary, and for classes of an output that has
/// no numbers.
EncodedInfer encode_infer(const InferResponse& response, const OutputEncoding& encoding);

/// What a caller of /predict sends for an input: a file's bytes, or a JSON array.
struct PredictValue {
  std::string input;                ///< empty: not named
  std::span<const std::byte> file;  ///< a JPEG, PNG or .npy
  std::string_view array;           ///< for parse_json_tensor(); empty: there is a file
};
struct DecodedPredict {
  std::vector<PredictValue> values;
  std::vector<std::vector<std::byte>> files;  ///< that the values view
};
/// {"image": "<base64>"}, or {"inputs": {"<name>": "<base64>" or an array}}. `body` is followed by kBodyPadding
/// readable bytes. Fails with kInvalidArgument.
DecodedPredict decode_predict(std::span<const std::byte> body);
/// A text that begins as a JSON array, without blanks around it, valid UTF-8 with strings that end; kBodyPadding bytes
/// behind it can be read. Nothing for another text. Fails with kInvalidArgument.
std::optional<std::string_view> json_array(std::span<const std::byte> text);

}  // namespace slipway
