// Bodies of infer requests against a model with several ports: any bytes decode or are refused, and what decodes refers
// to memory that is there. The first byte says how: raw, JSON, or JSON of so many bytes with tensors behind.
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "serve/json/infer_codec.h"
#include "serve/model_version.h"
#include "serve/wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace slipway;
  static const auto make = [](const char* text) {
    VersionSource source{.model = "fuzz", .graph = parse_text(text)};
    source.config.sticky_parameter = "user";
    return std::make_unique<ModelVersion>(std::move(source));
  };
  static const auto several = make(R"(graph "several" ir 8 opset {"": 13} {
  input %x : f32[N,3]
  input %s : string[N]
  %y = Identity(%x)
  %t = Identity(%s)
  output %y, %t
})");
  static const auto one = make(R"(graph "one" ir 8 opset {"": 13} {
  input %x : i16[2,K]
  %y = Identity(%x)
  output %y
})");
  if (size == 0) return 0;
  const size_t how = data[0];
  std::vector<std::byte> body(size - 1 + kBodyPadding);
  std::memcpy(body.data(), data + 1, size - 1);
  const std::span<const std::byte> bytes(body.data(), size - 1);
  try {
    const std::optional<size_t> header = how == 255 ? std::nullopt : std::optional<size_t>(how);
    const DecodedInfer decoded = decode_infer(bytes, header, nullptr, how % 2 == 0 ? *one : *several);
    size_t sum = 0;
    for (const WireTensor& tensor : decoded.request.inputs) {
      for (const std::byte b : tensor.bytes) sum += static_cast<size_t>(b);
      to_tensor(tensor);  // what is encoded is a model's output, whose strings are as long as they say
    }
    InferResponse response{.model = "fuzz", .outputs = decoded.request.inputs};
    if (sum != 1) encode_infer(response, decoded.encoding);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal) __builtin_trap();
  }
  try {
    json_array(bytes);
    decode_predict(bytes);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
