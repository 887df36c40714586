#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "serve/tls.h"

namespace slipway {

class Server;

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  ///< 0 picks a free one
  int threads = 1;
  uint64_t max_body_bytes = uint64_t{64} << 20;  ///< also of a body once unpacked
  uint32_t max_header_bytes = 16 << 10;
  int max_connections = 1024;
  int64_t idle_timeout_ms = 60'000;                  ///< between requests
  int64_t read_timeout_ms = 20'000;                  ///< for one request to arrive whole
  std::string admin_token;                           ///< opens load and unload; empty: only explicit control does
  std::shared_ptr<const TlsIdentity> tls = nullptr;  ///< null: plain
};

/// The data plane over HTTP/1.1: Open Inference Protocol v2, Triton's extensions, POST /predict.
class HttpPlane {
 public:
  /// Binds and listens. Fails with kIo when the port is in use.
  HttpPlane(Server& server, HttpOptions options);
  ~HttpPlane();
  void start();
  /// Accepts no more; requests that have begun to arrive are answered, then their connections end.
  void drain();
  /// After drain(): waits for them, or for `until_ns` (monotonic). True when all have ended; `stop` ends what is left.
  bool finish(int64_t until_ns);
  void stop();
  uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
