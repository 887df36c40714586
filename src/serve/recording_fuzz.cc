// Recordings: any bytes parse or are refused, as a file and as the payload of a record whose digest is right; what
// parses stays within the file.
#include "base/error.h"
#include "serve/recording.h"

namespace {

void read(std::span<const std::byte> bytes) {
  try {
    for (const slipway::RecordedRequest& r : slipway::parse_recording(bytes, nullptr, "fuzz").records)
      for (const auto* tensors : {&r.inputs, &r.outputs})
        for (const slipway::WireTensor& t : *tensors)
          if (!t.bytes.empty() && (t.bytes.data() < bytes.data() || t.bytes.size() > bytes.size())) __builtin_trap();
  } catch (const slipway::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  read(std::as_bytes(std::span(data, size)));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string framed = "SLIPREC2" + slipway::frame_record(text.substr(std::min<size_t>(24, size)));
  read(std::as_bytes(std::span(framed)));
  return 0;
}
