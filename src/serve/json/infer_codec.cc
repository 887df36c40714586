// Requests of the protocol. The JSON is walked once with simdjson's on-demand parser, which keeps no tree; a tensor's
// data stay text until the whole object was read, since its type and shape may come after them. Nothing recurses on the
// depth of the JSON, and all memory is bounded by the body's size.
#include "serve/json/infer_codec.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>

#include "base/base64.h"
#include "base/error.h"
#include "serve/json/json_tensor.h"

namespace slipway {
namespace {

namespace on_demand = simdjson::ondemand;

constexpr size_t kMaxRank = 16;
constexpr size_t kKeptParserBytes = 1 << 20;  ///< parsers of larger documents are not kept

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Calls `read` with the document's outermost object; what simdjson has to say becomes an Error.
template <typename Read>
void read_object(std::string_view json, Read read) {
  static thread_local on_demand::parser kept;
  on_demand::parser fresh;
  on_demand::parser& parser = json.size() <= kKeptParserBytes ? kept : fresh;
  try {
    on_demand::document document = parser.iterate(json.data(), json.size(), json.size() + kBodyPadding);
    on_demand::object object;
    if (document.get_object().get(object) != simdjson::SUCCESS)
      fail(ErrorCode::kInvalidArgument, "The request's JSON must be an object in UTF-8: {}",
           quote_name(json.substr(0, 40)));
    read(object);
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
      fail(ErrorCode::kInvalidArgument, "The request's JSON must end after its object.");
  } catch (const simdjson::simdjson_error& error) {
    fail(ErrorCode::kInvalidArgument, "The request's JSON is broken: {}", error.what());
  }
}

std::string read_string(on_demand::value value, std::string_view what) {
  std::string_view text;
  if (value.get_string().get(text) != simdjson::SUCCESS)
    fail(ErrorCode::kInvalidArgument, "A field of the request must be a string: {}", what);
  return std::string(text);
}

int64_t read_count(on_demand::value value, std::string_view what) {
  int64_t number = 0;
  if (value.get_int64().get(number) != simdjson::SUCCESS || number < 0)
    fail(ErrorCode::kInvalidArgument, "A field of the request must be a whole number, 0 or more: {}", what);
  return number;
}

bool read_bool(on_demand::value value, std::string_view what) {
  bool truth = false;
  if (value.get_bool().get(truth) != simdjson::SUCCESS)
    fail(ErrorCode::kInvalidArgument, "A field of the request must be true or false: {}", what);
  return truth;
}

on_demand::array read_array(on_demand::value value, std::string_view what) {
  on_demand::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS)
    fail(ErrorCode::kInvalidArgument, "A field of the request must be an array: {}", what);
  return array;
}

on_demand::object read_member_object(on_demand::value value, std::string_view what) {
  on_demand::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS)
    fail(ErrorCode::kInvalidArgument, "A field of the request must be an object: {}", what);
  return object;
}

/// A parameter's value as text: strings as they are, numbers and truth values as written.
std::string read_scalar(on_demand::value value, std::string_view key) {
  switch (value.type()) {
    case on_demand::json_type::string:
      return std::string(std::string_view(value.get_string()));
    case on_demand::json_type::number: {
      std::string_view token = value.raw_json_token();
      token = token.substr(0, token.find_last_not_of(" \t\r\n") + 1);
      on_demand::number checked = value.get_number();
      static_cast<void>(checked);
      return std::string(token);
    }
    case on_demand::json_type::boolean:
      return value.get_bool() ? "true" : "false";
    case on_demand::json_type::null:
      if (!value.is_null()) break;
      return {};
    default:
      break;
  }
  fail(ErrorCode::kInvalidArgument, "A parameter must be a string, a number, true or false: {}", quote_name(key));
}

/// Calls `read(key, value)` for each parameter; it returns whether it took the value.
template <typename Read>
void read_parameters(on_demand::value value, Read read) {
  if (value.is_null()) return;
  for (on_demand::field field : read_member_object(value, "parameters")) {
    const std::string key{std::string_view(field.unescaped_key())};
    if (key.starts_with("shared_memory_"))
      fail(ErrorCode::kUnsupported, "Shared memory is not offered; send the tensors in the request: {}",
           quote_name(key));
    on_demand::value parameter = field.value();
    if (!read(key, parameter)) read_scalar(parameter, key);
  }
}

struct InputSpec {
  std::string name, datatype;
  Dims dims;
  std::string_view data;
  bool has_name = false, has_dims = false;
  std::optional<int64_t> binary_bytes;
};

InputSpec read_input(on_demand::value value) {
  InputSpec input;
  for (on_demand::field field : read_member_object(value, "inputs")) {
    const std::string_view key = field.unescaped_key();
    on_demand::value member = field.value();
    if (key == "name") {
      input.name = read_string(member, "inputs, name");
      input.has_name = true;
    } else if (key == "datatype") {
      input.datatype = read_string(member, "inputs, datatype");
    } else if (key == "shape") {
      input.dims.clear();
      input.has_dims = true;
      for (auto entry : read_array(member, "inputs, shape")) {
        int64_t dim = 0;
        if (entry.get_int64().get(dim) != simdjson::SUCCESS)
          fail(ErrorCode::kInvalidArgument, "A shape must hold whole numbers: input {}", quote_name(input.name));
        if (input.dims.size() == kMaxRank)
          fail(ErrorCode::kInvalidArgument, "A shape must have at most {} axes: input {}", kMaxRank,
               quote_name(input.name));
        input.dims.push_back(dim);
      }
    } else if (key == "data") {
      on_demand::array array = read_array(member, "inputs, data");
      input.data = array.raw_json();
      input.data = input.data.substr(0, input.data.find_last_of(']') + 1);
    } else if (key == "parameters") {
      read_parameters(member, [&](std::string_view name, on_demand::value parameter) {
        if (name != "binary_data_size") return false;
        input.binary_bytes = read_count(parameter, "inputs, binary_data_size");
        return true;
      });
    }
  }
  if (!input.has_name) fail(ErrorCode::kInvalidArgument, "An input of the request must have a name.");
  if (!input.has_dims) fail(ErrorCode::kInvalidArgument, "An input must have a shape: {}", quote_name(input.name));
  if (input.data.empty() == !input.binary_bytes)
    fail(ErrorCode::kInvalidArgument, "An input must have either data or the parameter binary_data_size: {}",
         quote_name(input.name));
  return input;
}

std::string names_of(const std::vector<Port>& ports) {
  std::string names;
  for (const Port& port : ports) names += (names.empty() ? "" : ", ") + port.name;
  return names;
}

void read_output(on_demand::value value, const ModelVersion& version, DecodedInfer& decoded) {
  std::string name;
  std::optional<bool> binary;
  int64_t classes = 0;
  for (on_demand::field field : read_member_object(value, "outputs")) {
    const std::string_view key = field.unescaped_key();
    on_demand::value member = field.value();
    if (key == "name")
      name = read_string(member, "outputs, name");
    else if (key == "parameters")
      read_parameters(member, [&](std::string_view parameter, on_demand::value given) {
        if (parameter == "binary_data")
          binary = read_bool(given, "outputs, binary_data");
        else if (parameter == "classification")
          classes = read_count(given, "outputs, classification");
        else
          return false;
        return true;
      });
  }
  const auto port =
      std::find_if(version.outputs().begin(), version.outputs().end(), [&](const Port& p) { return p.name == name; });
  if (port == version.outputs().end())
    fail(ErrorCode::kInvalidArgument, "The model has no such output; it gives {}: {}", names_of(version.outputs()),
         quote_name(name));
  auto& wanted = decoded.request.outputs;
  if (std::find(wanted.begin(), wanted.end(), name) != wanted.end())
    fail(ErrorCode::kInvalidArgument, "An output must be asked for once: {}", quote_name(name));
  if (binary) decoded.encoding.binary[name] = *binary;
  if (classes > 0) {
    decoded.encoding.classes[name] = {classes, !port->dims.empty() && port->dims[0] < 0};
    decoded.encoding.labels = version.labels();
  }
  wanted.push_back(std::move(name));
}

void read_request_parameter(on_demand::value value, const ModelVersion& version, DecodedInfer& decoded) {
  read_parameters(value, [&](std::string_view key, on_demand::value parameter) {
    if (key == "binary_data_output")
      decoded.encoding.all_binary = read_bool(parameter, "parameters, binary_data_output");
    else if (key == "timeout")
      decoded.timeout_us = read_count(parameter, "parameters, timeout (in microseconds)");
    else if (!key.empty() && key == version.config().sticky_parameter)
      decoded.sticky_parameter = read_scalar(parameter, key);
    else
      return false;
    return true;
  });
}

/// An array as it was written.
std::string_view array_text(on_demand::array array) {
  const std::string_view text = array.raw_json();
  return text.substr(0, text.find_last_of(']') + 1);
}

/// What the inputs' bytes lie in.
struct RequestMemory {
  std::shared_ptr<const void> body;
  std::vector<AlignedBytes> tensors;
};

/// The whole body is the model's only input.
void decode_raw(std::span<const std::byte> body, const ModelVersion& version, DecodedInfer& decoded,
                RequestMemory& memory) {
  if (version.inputs().size() != 1)
    fail(ErrorCode::kInvalidArgument, "A raw body suits models with one input only; send JSON with binary tensors: {}",
         names_of(version.inputs()));
  const Port& port = version.inputs()[0];
  WireTensor tensor{port.name, port.dtype, port.dims, body};
  if (port.dtype == DType::kString) {  // one element, sent without its length
    std::replace(tensor.dims.begin(), tensor.dims.end(), int64_t{-1}, int64_t{1});
    const auto length = static_cast<uint32_t>(body.size());
    AlignedBytes bytes = allocate_aligned(sizeof length + body.size());
    std::memcpy(bytes.get(), &length, sizeof length);
    if (!body.empty()) std::memcpy(bytes.get() + sizeof length, body.data(), body.size());
    tensor.bytes = {bytes.get(), sizeof length + body.size()};
    memory.tensors.push_back(std::move(bytes));
  } else {
    // One free axis follows from the size; of several, the first is a batch of one.
    auto free_axes = std::count(tensor.dims.begin(), tensor.dims.end(), -1);
    if (free_axes > 1 && tensor.dims[0] == -1) tensor.dims[0] = 1, --free_axes;
    if (free_axes > 1)
      fail(ErrorCode::kInvalidArgument, "A raw body can't tell several free dimensions; send JSON: '{}' {}", port.name,
           to_string(port.dims));
    size_t known = bytes_of(port.dtype, 1);
    for (const int64_t dim : tensor.dims) known *= dim >= 0 ? static_cast<size_t>(dim) : 1;
    if (free_axes == 1 && (known == 0 || body.size() % known != 0))
      fail(ErrorCode::kInvalidArgument, "A raw body must be a multiple of the input's row: '{}' {}, {} bytes in {}",
           port.name, to_string(port.dims), body.size(), known);
    for (int64_t& dim : tensor.dims)
      if (dim < 0) dim = static_cast<int64_t>(body.size() / known);
  }
  decoded.encoding.all_binary = true;
  decoded.request.inputs.push_back(std::move(tensor));
}

void decode_json(std::span<const std::byte> body, size_t header_bytes, const ModelVersion& version,
                 DecodedInfer& decoded, RequestMemory& memory) {
  std::vector<InputSpec> specs;
  bool has_inputs = false, has_outputs = false;
  read_object(as_text(body).substr(0, header_bytes), [&](on_demand::object& object) {
    for (on_demand::field field : object) {
      const std::string_view key = field.unescaped_key();
      on_demand::value value = field.value();
      if (key == "inputs") {
        if (std::exchange(has_inputs, true)) fail(ErrorCode::kInvalidArgument, "The request must have inputs once.");
        for (on_demand::value input : read_array(value, "inputs")) specs.push_back(read_input(input));
      } else if (key == "outputs" && !value.is_null()) {
        if (std::exchange(has_outputs, true)) fail(ErrorCode::kInvalidArgument, "The request must have outputs once.");
        for (on_demand::value output : read_array(value, "outputs")) read_output(output, version, decoded);
      } else if (key == "id" && !value.is_null()) {
        decoded.request.id = read_string(value, "id");
      } else if (key == "parameters") {
        read_request_parameter(value, version, decoded);
      }
    }
  });
  if (!has_inputs) fail(ErrorCode::kInvalidArgument, "The request must have an array of inputs.");

  size_t at = header_bytes;
  for (const InputSpec& spec : specs) {
    WireTensor tensor{spec.name, parse_datatype(spec.datatype), spec.dims, {}};
    if (tensor.dtype == DType::kUndefined)
      fail(ErrorCode::kInvalidArgument,
           "An input must have a datatype of the protocol (BOOL, UINT8 … UINT64, INT8 … INT64, FP16, BF16, FP32, FP64, "
           "BYTES): {}, {}",
           quote_name(spec.name), quote_name(spec.datatype));
    for (const InputSpec& other : specs)
      if (&other != &spec && other.name == spec.name)
        fail(ErrorCode::kInvalidArgument, "An input came twice: {}", quote_name(spec.name));
    if (spec.binary_bytes) {
      if (static_cast<uint64_t>(*spec.binary_bytes) > body.size() - at)
        fail(ErrorCode::kInvalidArgument,
             "An input's binary_data_size is more than the body has left behind its JSON; is the header "
             "Inference-Header-Content-Length right? {}, {} of {} bytes",
             quote_name(spec.name), *spec.binary_bytes, body.size() - at);
      tensor.bytes = body.subspan(at, static_cast<size_t>(*spec.binary_bytes));
      at += tensor.bytes.size();
    } else {
      TensorBytes bytes = parse_json_tensor(spec.data, tensor.dtype, spec.dims, spec.name);
      tensor.bytes = {bytes.data.get(), bytes.size};
      memory.tensors.push_back(std::move(bytes.data));
    }
    decoded.request.inputs.push_back(std::move(tensor));
  }
  if (at != body.size())
    fail(ErrorCode::kInvalidArgument,
         "The body is longer than its JSON and the inputs' binary_data_size: {} bytes left", body.size() - at);
}

}  // namespace

DecodedInfer decode_infer(std::span<const std::byte> body, std::optional<size_t> header_bytes,
                          std::shared_ptr<const void> owner, const ModelVersion& version) {
  if (header_bytes && *header_bytes > body.size())
    fail(ErrorCode::kInvalidArgument, "Inference-Header-Content-Length is more than the whole body: {} of {} bytes",
         *header_bytes, body.size());
  DecodedInfer decoded;
  const auto memory = std::make_shared<RequestMemory>(RequestMemory{std::move(owner), {}});
  if (header_bytes == 0u)
    decode_raw(body, version, decoded, *memory);
  else
    decode_json(body, header_bytes.value_or(body.size()), version, decoded, *memory);
  decoded.request.owner = memory;
  return decoded;
}

DecodedPredict decode_predict(std::span<const std::byte> body) {
  DecodedPredict decoded;
  const auto add = [&](std::string input, on_demand::value value) {
    const std::string shown = input.empty() ? "image" : quote_name(input);
    if (!input.empty() && value.type() == on_demand::json_type::array) {
      decoded.values.push_back({.input = std::move(input), .array = array_text(value.get_array())});
      return;
    }
    std::string_view text;
    if (value.get_string().get(text) != simdjson::SUCCESS)
      fail(ErrorCode::kInvalidArgument, "A field of the request must be {}: {}",
           input.empty() ? "a string" : "an array of numbers, or a file in base64", shown);
    std::optional<std::vector<std::byte>> file = base64_decode(text);
    if (!file) fail(ErrorCode::kInvalidArgument, "The file must be base64 with padding (RFC 4648): {}", shown);
    decoded.files.push_back(std::move(*file));
    decoded.values.push_back({.input = std::move(input), .file = decoded.files.back()});
  };
  read_object(as_text(body), [&](on_demand::object& object) {
    for (on_demand::field field : object) {
      const std::string key{std::string_view(field.unescaped_key())};
      if (key == "image") add("", field.value());
      if (key != "inputs") continue;
      for (on_demand::field input : read_member_object(field.value(), "inputs")) {
        std::string name{std::string_view(input.unescaped_key())};
        if (name.empty()) fail(ErrorCode::kInvalidArgument, "An input of the request has no name: inputs");
        add(std::move(name), input.value());
      }
    }
  });
  if (decoded.values.empty())
    fail(ErrorCode::kInvalidArgument,
         "The request must hold the picture, {{\"image\": \"<base64>\"}}, or inputs by name, {{\"inputs\": {{…}}}}");
  return decoded;
}

std::optional<std::string_view> json_array(std::span<const std::byte> text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  std::string_view array = as_text(text);
  array.remove_prefix(std::min(array.find_first_not_of(kBlanks), array.size()));
  array = array.substr(0, array.find_last_not_of(kBlanks) + 1);
  if (!array.starts_with('[')) return std::nullopt;
  on_demand::parser parser;
  if (parser.iterate(array.data(), array.size(), array.size() + kBodyPadding).error() != simdjson::SUCCESS)
    fail(ErrorCode::kInvalidArgument, "An array must be JSON in UTF-8: {}", quote_name(array.substr(0, 40)));
  return array;
}

}  // namespace slipway
