// URLs of servers under load: scheme, host, port.
#include "load/load_url.h"

#include <charconv>

#include "base/error.h"

namespace slipway {

std::string LoadUrl::authority() const {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

LoadUrl parse_load_url(const std::string& url) {
  const auto refuse = [&](const char* why) {
    fail(ErrorCode::kInvalidArgument,
         "A server is given as http://host:port or grpc://host:port, with an s behind http or grpc for TLS ({}): '{}'",
         why, url);
  };
  LoadUrl parsed;
  std::string_view rest = url;
  const size_t end = rest.find("://");
  const std::string_view scheme = rest.substr(0, end == std::string_view::npos ? 0 : end);
  parsed.grpc = scheme.starts_with("grpc");
  parsed.tls = scheme.ends_with('s');
  parsed.port = parsed.grpc ? 8001 : 8000;
  if (scheme != "http" && scheme != "https" && scheme != "grpc" && scheme != "grpcs") refuse("no such scheme");
  rest.remove_prefix(scheme.size() + 3);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find_first_of("/?#@ \r\n\t") != std::string_view::npos) refuse("nothing may stand behind the port");
  std::string_view port;
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos) refuse("the bracket is not closed");
    parsed.host = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
    if (!rest.empty() && rest[0] != ':') refuse("no ':' before the port");
    port = rest.empty() ? rest : rest.substr(1);
  } else {
    const size_t colon = rest.rfind(':');
    parsed.host = rest.substr(0, colon);
    if (colon != std::string_view::npos) {
      port = rest.substr(colon + 1);
      if (port.empty()) refuse("no port behind the ':'");
    }
    if (parsed.host.find(':') != std::string::npos) refuse("put brackets around an IPv6 address");
  }
  if (parsed.host.empty()) refuse("no host");
  if (!port.empty() && (std::from_chars(port.data(), port.data() + port.size(), parsed.port) !=
                            std::from_chars_result{port.data() + port.size(), std::errc()} ||
                        parsed.port == 0))
    refuse("a port is a number from 1 to 65535");
  return parsed;
}

}  // namespace slipway
