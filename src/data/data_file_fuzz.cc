// Data files and the metadata's JSON: any text parses or is refused.
#include "base/error.h"
#include "data/data_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    slipway::parse_data_file(text, "/nowhere/data.yaml");
  } catch (const slipway::Error&) {
  }
  try {
    slipway::parse_preprocess_json(text, "fuzz");
  } catch (const slipway::Error&) {
  }
  return 0;
}
