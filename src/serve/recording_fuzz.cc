// Recordings: any bytes parse or are refused, and what parses stays within the file.
#include "base/error.h"
#include "serve/recording.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    for (const slipway::RecordedRequest& r : slipway::parse_recording(bytes, nullptr, "fuzz"))
      for (const auto* tensors : {&r.inputs, &r.outputs})
        for (const slipway::WireTensor& t : *tensors)
          if (!t.bytes.empty() && (t.bytes.data() < bytes.data() || t.bytes.size() > size)) __builtin_trap();
  } catch (const slipway::Error&) {
  }
  return 0;
}
