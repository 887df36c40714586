#pragma once
#include <cstdint>
#include <string>

namespace slipway {

/// Where a load goes.
struct LoadUrl {
  bool grpc = false, tls = false;
  std::string host;  ///< an IPv6 address without its brackets
  uint16_t port = 0;
  std::string authority() const;  ///< host:port as HTTP's Host header has it
};

/// http://HOST[:8000] or grpc://HOST[:8001], https:// and grpcs:// with TLS, nothing behind it but a slash. Fails with
/// kInvalidArgument.
LoadUrl parse_load_url(const std::string& url);

}  // namespace slipway
