#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "serve/http/http_message.h"

namespace slipway {

struct HttpLimits {
  uint64_t max_body_bytes = uint64_t{64} << 20;  ///< also of a body once unpacked
  uint32_t max_header_bytes = 16 << 10;
};

/// What a peer sends, turned into requests: no sockets, so that any bytes in any portions can be fed to it. Bytes are
/// written into room() and announced by received(); a body of known length lands where it stays.
class RequestReader {
 public:
  enum class State : uint8_t {
    kHead,      ///< waits for the rest of a head, or for a first byte
    kBody,      ///< waits for the rest of a body
    kComplete,  ///< request() may be answered; what comes meanwhile is kept
    kRefused,   ///< no request can be read from this peer any more: answer refusal() and close
  };

  explicit RequestReader(HttpLimits limits);
  ~RequestReader();

  /// Where the next bytes go; empty when there is no room before next().
  std::span<std::byte> room();
  /// `count` bytes have come there.
  void received(size_t count);
  State state() const;
  const HttpRequest& request() const;
  /// Status and message of kRefused.
  const HttpReply& refusal() const;
  /// True once for a request whose body is held back until the server says 100.
  bool wants_continue();
  /// Nothing has come of a request (of a further one when complete).
  bool idle() const;
  /// Forgets the request, and reads on in the bytes that came after it.
  void next();
  /// Gives back the body's memory; only while idle.
  void release_memory();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
