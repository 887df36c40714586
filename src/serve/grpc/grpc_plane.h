#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "serve/tls.h"

namespace slipway {

class Server;

struct GrpcOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8001;  ///< 0 picks a free one
  int threads = 1;
  uint64_t max_message_bytes = uint64_t{64} << 20;
  std::string admin_token;                           ///< as HttpOptions'
  std::shared_ptr<const TlsIdentity> tls = nullptr;  ///< null: plain
};

/// The data plane over gRPC: Open Inference Protocol v2, Triton's extensions that HTTP has too, grpc.health.v1.
class GrpcPlane {
 public:
  /// Binds. Fails with kIo when the port is in use.
  GrpcPlane(Server& server, GrpcOptions options);
  ~GrpcPlane();
  void start();
  /// No new calls; those under way are answered for at most `timeout_ms`, then cancelled.
  void stop(int64_t timeout_ms = 5000);
  uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
