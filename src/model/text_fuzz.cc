#include "model/exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  slipway::exercise_text({reinterpret_cast<const char*>(data), size});
  return 0;
}
