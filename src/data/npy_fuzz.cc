// .npy files and .npz archives: any bytes parse or are refused, and what parses can be written and read again.
#include "base/error.h"
#include "data/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    if (size > 1 && data[0] == 'P') {
      slipway::parse_npz(bytes, "fuzz");
    } else {
      const slipway::Tensor tensor = slipway::parse_npy({nullptr, bytes}, "fuzz");
      const std::string again = slipway::npy_bytes(tensor);
      if (!slipway::parse_npy({nullptr, std::as_bytes(std::span(again))}, "fuzz").identical(tensor)) __builtin_trap();
    }
  } catch (const slipway::Error&) {
  }
  return 0;
}
