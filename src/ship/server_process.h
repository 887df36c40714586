#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// A running `slipway serve` on this machine.
struct RunningServer {
  pid_t pid = 0;
  uint16_t http_port = 0, grpc_port = 0, admin_port = 0;
  std::string host = "127.0.0.1", admin_host = "127.0.0.1";
  bool tls = false;  ///< on all ports
  std::string http_url() const;
  std::string admin_url() const;
};

struct ServeCommand {
  std::string program = "/proc/self/exe";
  std::string repository;
  uint16_t http_port = 0, grpc_port = 0, admin_port = 0;  ///< 0 picks free ones
  std::vector<std::string> more;                          ///< further arguments
  std::string log_path;                                   ///< of its standard error, appended to
  double timeout_seconds = 3600;                          ///< until its models are loaded, plans built
};

/// A server that lives as long as this object; it also ends when this process is killed. Its admin port takes no token.
class ServerChild {
 public:
  /// Returns once it listens. Fails with kIo quoting the end of its log when it ends before, kDeadline, kInterrupted.
  explicit ServerChild(const ServeCommand& command);
  ~ServerChild();
  ServerChild(const ServerChild&) = delete;
  ServerChild& operator=(const ServerChild&) = delete;
  const RunningServer& server() const { return server_; }

 private:
  RunningServer server_;
};

/// A server that outlives this process, in a session of its own. Fails as ServerChild does, and stops it then.
RunningServer start_detached(const ServeCommand& command);
/// Fails with kInvalidArgument naming the port where one that the command asks for is taken on this machine.
void require_free_ports(const ServeCommand& command);
/// SIGTERM, so that it drains; SIGKILL when it has not ended in time. Ours or another's child. False: it was not there.
bool stop_server(pid_t pid, double timeout_seconds = 15);

/// The server that REPOSITORY/.slipway/server.json speaks of, if its process is alive.
std::optional<RunningServer> find_server(const std::string& repository);

}  // namespace slipway
