// The alarms' YAML: any text parses or is refused.
#include "base/error.h"
#include "monitor/alarm_rules.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    slipway::parse_alarm_rules(std::string(reinterpret_cast<const char*>(data), size), "fuzz.yaml");
  } catch (const slipway::Error&) {
  }
  return 0;
}
