#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "serve/tls.h"

namespace slipway {

/// A server's process, from its admin listener's GET /metrics; all 0 as long as nothing is known.
struct ServerFacts {
  double cpu_seconds = 0, resident_bytes = 0;
  int64_t at_ns = 0;  ///< monotonic
};
/// From Prometheus' text format; at_ns is left.
ServerFacts parse_server_facts(const std::string& metrics);

/// Asks once a second in a thread of its own, so that a slow answer delays no load.
class ServerWatch {
 public:
  /// Asks once here. Fails with kIo when there is no such listener, kInvalidArgument when it tells nothing of a
  /// process.
  explicit ServerWatch(const std::string& admin_url, const TlsFiles& tls = {});
  ~ServerWatch();
  ServerFacts latest() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
