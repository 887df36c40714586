#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// scheme://host[:port][/path][?query]
struct Url {
  std::string scheme, host;  ///< the host of an IPv6 address without its brackets
  uint16_t port = 0;
  std::string path, query;  ///< with their '/' and '?', or empty; no slash ends a path
  bool tls() const { return scheme.ends_with('s'); }
  /// host:port as HTTP's Host header has it.
  std::string authority() const;
};

struct UrlScheme {
  const char* name;
  uint16_t port;  ///< where the URL names none
};

/// A URL of one of the schemes; a fragment is dropped. Fails with kInvalidArgument, naming them all.
Url parse_url(const std::string& url, std::span<const UrlScheme> schemes);

/// A path segment or query value: everything but RFC 3986's unreserved characters as %XX.
std::string percent_encode(std::string_view text);

}  // namespace slipway
