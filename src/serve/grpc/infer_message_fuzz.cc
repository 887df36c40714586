// ModelInferRequest: any bytes are read or refused; what is read lies in memory that is alive, and can be answered.
#include <cstdint>

#include "base/error.h"
#include "serve/grpc/infer_message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of its own, so that AddressSanitizer sees a view that outlives it.
  auto owner = std::make_shared<std::vector<std::byte>>(size);
  for (size_t i = 0; i < size; ++i) (*owner)[i] = static_cast<std::byte>(data[i]);
  const std::span<const std::byte> bytes(*owner);
  try {
    slipway::InferMessage message = slipway::decode_infer_message(bytes, std::move(owner));
    slipway::InferResponse response;
    response.outputs = message.request.inputs;
    unsigned sum = 0;
    for (const auto& piece : slipway::encode_infer_message(response, slipway::Variant::kStable, size % 2 == 0))
      for (std::byte byte : piece.bytes) sum += static_cast<unsigned>(byte);
    volatile unsigned sink = sum;
    static_cast<void>(sink);
  } catch (const slipway::Error&) {
  }
  return 0;
}
