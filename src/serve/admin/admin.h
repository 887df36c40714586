#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "serve/tls.h"

namespace slipway {

struct AdminRequest {
  std::string method, path;                  ///< "GET", "/api/rollout/resnet/start"; the path without its query
  std::map<std::string, std::string> query;  ///< percent-decoded
  std::string body;
};

/// The token of a file, or else of $SLIPWAY_ADMIN_TOKEN; line ends are left out. Empty: none is given. Fails with
/// kInvalidArgument unless it has 16 or more characters, all of them visible ASCII, as it goes into a header.
std::string read_admin_token(const std::string& file);

struct AdminReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

/// The admin listener: metrics, dashboard, rollouts. Its own threads, so that it answers while the data plane is full.
/// Handlers may block; an Error thrown becomes its HTTP status with {"error"}. Anything but GET needs
/// Content-Type: application/json, which a page of another origin can't send unasked. With a token, every request but
/// GET /metrics… needs `Authorization: Bearer TOKEN` (or ?token= for the dashboard).
class AdminPlane {
 public:
  using Handler = std::function<AdminReply(const AdminRequest&)>;
  /// Binds; 0 picks a free port. Fails with kIo when the port is in use, kInvalidArgument without a token on an address
  /// that is not loopback.
  AdminPlane(const std::string& host, uint16_t port, std::string token, std::shared_ptr<const TlsIdentity> tls = {});
  ~AdminPlane();
  /// `path` is exact, or a prefix when it ends in '/'; the longest wins. Before start().
  void handle(const std::string& method, const std::string& path, Handler handler);
  void start();
  void stop();
  uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
