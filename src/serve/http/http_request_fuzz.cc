// What a peer sends over HTTP: any bytes, in portions of any size, become requests or are refused; a request's body
// keeps its bounds, and its target and codings parse or are refused.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "serve/http/compression.h"
#include "serve/http/request_reader.h"
#include "serve/json/infer_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using State = slipway::RequestReader::State;
  if (size < 1) return 0;
  const size_t portion = data[0] ? data[0] : size;  // the first byte says how the rest is cut up
  constexpr slipway::HttpLimits kLimits{.max_body_bytes = 1 << 16, .max_header_bytes = 2048};
  slipway::RequestReader reader(kLimits);
  size_t at = 1;
  while (reader.state() != State::kRefused) {
    if (reader.state() == State::kComplete) {
      const slipway::HttpRequest& request = reader.request();
      if (request.method.empty() || request.body.size() > kLimits.max_body_bytes) __builtin_trap();
      volatile unsigned sum = 0;
      for (size_t i = 0; i < slipway::kBodyPadding; ++i)
        sum = sum + static_cast<unsigned>(request.body.data()[request.body.size() + i]);
      if (sum != 0) __builtin_trap();
      try {
        slipway::parse_target(request.target);
      } catch (const slipway::Error&) {
      }
      slipway::accepted_coding(request.header("accept-encoding"));
      slipway::bearer_matches(request, "secret");
      reader.next();
      continue;
    }
    if (at == size) return 0;
    reader.wants_continue();
    const auto room = reader.room();
    if (room.empty()) __builtin_trap();
    const size_t count = std::min({portion, size - at, room.size()});
    std::memcpy(room.data(), data + at, count);
    reader.received(count);
    at += count;
  }
  if (reader.refusal().status < 400 || reader.refusal().status > 499) __builtin_trap();
  return 0;
}
