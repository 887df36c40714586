#pragma once
#include <sys/socket.h>

#include <cstdint>
#include <string_view>

#include "load/load_url.h"

namespace slipway {

/// Where connections go: the first address of a host that accepted one.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  /// A non-blocking TCP socket on its way (or already there); −1 with errno when refused at once.
  int connect() const;
};

/// Fails with kIo when no address of the host accepts a connection in time.
SocketAddress reach(const Url& url, double timeout_seconds = 5);

/// The head of an HTTP/1.1 response.
struct ResponseHead {
  size_t head_bytes = 0;  ///< with the empty line
  int status = 0;
  uint64_t body_bytes = 0;
  bool until_close = false;         ///< no length was given: the body ends with the connection
  bool keep_alive = true;           ///< the connection can be used again
  uint64_t inference_header_bytes;  ///< of JSON in front of binary tensors; 0 without
};
enum class HeadState { kIncomplete, kComplete, kMalformed };
/// Looks at the first bytes of a response. Malformed: not HTTP/1, over 64 KiB, lengths that are none, chunked.
HeadState parse_response_head(std::string_view bytes, ResponseHead& head);

}  // namespace slipway
