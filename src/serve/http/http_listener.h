#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "serve/http/http_message.h"
#include "serve/http/request_reader.h"
#include "serve/tls.h"

namespace slipway {

struct ListenOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  ///< 0 picks a free one
  int threads = 1;
  HttpLimits limits = {};
  int max_connections = 1024;
  bool make_room = false;            ///< beyond these, the one that has waited longest for its request ends
  int64_t idle_timeout_ms = 60'000;  ///< between requests
  int64_t read_timeout_ms = 20'000;  ///< for a request to arrive whole, and between two steps of a response's way out
  std::shared_ptr<const TlsIdentity> tls = nullptr;  ///< null: plain
};

/// HTTP/1.1 over TCP or TLS: connections, their limits and timeouts. Knows nothing of what is asked.
class HttpListener {
 public:
  /// Called on a connection's thread, one request of a connection at a time; an Error thrown becomes its HTTP status.
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;
  /// Binds and listens. Fails with kIo when the port is in use, kInvalidArgument when the host is no address.
  HttpListener(ListenOptions options, Handler handler);
  ~HttpListener();
  void start();
  /// Accepts no more; connections end after the response under way, idle ones at once.
  void drain();
  /// After drain(): waits until the last connection has ended, or for `until_ns` (monotonic). True when it has.
  bool finish(int64_t until_ns);
  /// Ends all connections; returns when every exchange has been answered.
  void stop();
  uint16_t port() const;
  int connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
