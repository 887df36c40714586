// Pictures from the network or a folder: any bytes decode or are refused.
#include "base/error.h"
#include "data/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const slipway::Image image = slipway::decode_image(std::as_bytes(std::span(data, size)), "fuzz");
    if (image.pixels.size() != static_cast<size_t>(image.height * image.width * image.channels)) __builtin_trap();
  } catch (const slipway::Error&) {
  }
  return 0;
}
