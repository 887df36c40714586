// Responses of the protocol as JSON, with binary tensors behind it where they are wanted. Numbers grow one string, in
// steps with room for the longest of each type.
#include <simdjson.h>

#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "serve/classification.h"
#include "serve/json/float_text.h"
#include "serve/json/infer_codec.h"

namespace slipway {
namespace {

void append_string(std::string& json, std::string_view text) {
  json += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\')
      (json += '\\') += c;
    else if (static_cast<unsigned char>(c) < 0x20)
      json += fmt::format("\\u{:04x}", static_cast<int>(c));
    else
      json += c;
  }
  json += '"';
}

/// Elements with commas between; `write` puts one at a pointer with kFloatTextSize of room and returns the end.
template <typename T, typename Write>
void append_elements(std::string& json, std::span<const std::byte> bytes, Write write) {
  constexpr size_t kStep = 512;
  const size_t count = bytes.size() / sizeof(T);
  for (size_t first = 0; first < count; first += kStep) {
    const size_t last = std::min(first + kStep, count), used = json.size();
    if (json.capacity() < used + kStep * kFloatTextSize)
      json.reserve(std::max(2 * json.capacity(), used + kStep * kFloatTextSize));
    json.resize(used + (last - first) * kFloatTextSize);
    char* out = json.data() + used;
    for (size_t i = first; i < last; ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      out = write(out, value);
      *out++ = ',';
    }
    json.resize(static_cast<size_t>(out - json.data()));
  }
  if (count > 0) json.pop_back();
}

template <typename T>
void append_integers(std::string& json, std::span<const std::byte> bytes) {
  append_elements<T>(json, bytes, [](char* out, T value) { return std::to_chars(out, out + 20, value).ptr; });
}

void append_strings(std::string& json, const WireTensor& tensor) {
  size_t at = 0;
  while (at < tensor.bytes.size()) {
    uint32_t length;
    std::memcpy(&length, tensor.bytes.data() + at, sizeof length);
    const std::string_view text(reinterpret_cast<const char*>(tensor.bytes.data()) + at + sizeof length, length);
    if (!simdjson::validate_utf8(text.data(), text.size()))
      fail(ErrorCode::kInvalidArgument, "An output holds bytes that are no UTF-8; ask for it with binary_data: '{}'",
           tensor.name);
    if (at > 0) json += ',';
    append_string(json, text);
    at += sizeof length + length;
  }
}

void append_data(std::string& json, const WireTensor& tensor) {
  switch (tensor.dtype) {
    case DType::kBool:
      return append_elements<uint8_t>(json, tensor.bytes, [](char* out, uint8_t value) {
        const std::string_view text = value != 0 ? "true" : "false";
        std::memcpy(out, text.data(), text.size());
        return out + text.size();
      });
    case DType::kUint8:
      return append_integers<uint8_t>(json, tensor.bytes);
    case DType::kUint16:
      return append_integers<uint16_t>(json, tensor.bytes);
    case DType::kUint32:
      return append_integers<uint32_t>(json, tensor.bytes);
    case DType::kUint64:
      return append_integers<uint64_t>(json, tensor.bytes);
    case DType::kInt8:
      return append_integers<int8_t>(json, tensor.bytes);
    case DType::kInt16:
      return append_integers<int16_t>(json, tensor.bytes);
    case DType::kInt32:
      return append_integers<int32_t>(json, tensor.bytes);
    case DType::kInt64:
      return append_integers<int64_t>(json, tensor.bytes);
    case DType::kFloat16:
      return append_elements<uint16_t>(
          json, tensor.bytes, [](char* out, uint16_t value) { return write_float(out, half_to_float(value)); });
    case DType::kBfloat16:
      return append_elements<uint16_t>(
          json, tensor.bytes, [](char* out, uint16_t value) { return write_float(out, bfloat16_to_float(value)); });
    case DType::kFloat32:
      return append_elements<float>(json, tensor.bytes, write_float);
    case DType::kFloat64:
      return append_elements<double>(json, tensor.bytes, write_double);
    case DType::kString:
      return append_strings(json, tensor);
    default:
      fail(ErrorCode::kUnsupported, "The protocol has no form for an output's type: '{}', {}", tensor.name,
           to_string(tensor.dtype));
  }
}

}  // namespace

EncodedInfer encode_infer(const InferResponse& response, const OutputEncoding& encoding) {
  EncodedInfer encoded;
  std::string& json = encoded.json;
  json = "{\"model_name\":";
  append_string(json, response.model);
  json += fmt::format(",\"model_version\":\"{}\"", response.version);
  if (!response.id.empty()) append_string(json += ",\"id\":", response.id);
  json += ",\"outputs\":[";
  const auto texts = std::make_shared<std::vector<std::vector<std::byte>>>(encoding.classes.size());
  size_t classified = 0;
  for (const WireTensor& output : response.outputs) {
    const auto classes = encoding.classes.find(output.name);
    const bool rank = classes != encoding.classes.end() && classified < texts->size();
    const WireTensor tensor =
        rank ? classify(output, classes->second.count, classes->second.by_row, encoding.labels, (*texts)[classified++])
             : output;
    if (json.back() == '}') json += ',';
    append_string(json += "{\"name\":", tensor.name);
    json +=
        fmt::format(",\"datatype\":\"{}\",\"shape\":[{}]", datatype_name(tensor.dtype), fmt::join(tensor.dims, ","));
    const auto choice = encoding.binary.find(tensor.name);
    if (choice != encoding.binary.end() ? choice->second : encoding.all_binary) {
      json += fmt::format(",\"parameters\":{{\"binary_data_size\":{}}}", tensor.bytes.size());
      encoded.tail.push_back(tensor.bytes);
      encoded.binary = true;
    } else {
      json += ",\"data\":[";
      append_data(json, tensor);
      json += ']';
    }
    json += '}';
  }
  json += "]}";
  encoded.owner = response.owner;
  if (classified > 0)
    encoded.owner = std::make_shared<std::pair<std::shared_ptr<const void>, decltype(texts)>>(response.owner, texts);
  return encoded;
}

}  // namespace slipway
