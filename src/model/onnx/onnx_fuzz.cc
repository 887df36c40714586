#include "model/exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  slipway::exercise_onnx({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
