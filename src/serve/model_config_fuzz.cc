// Fuzz target: NAME/config.yaml of a repository.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "serve/repository.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    slipway::parse_model_config(std::string(reinterpret_cast<const char*>(data), size), "fuzz.yaml");
  } catch (const slipway::Error& error) {
    SLIPWAY_CHECK(error.code() != slipway::ErrorCode::kInternal);
  }
  return 0;
}
