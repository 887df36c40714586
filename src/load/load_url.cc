#include "load/load_url.h"

#include "base/error.h"

namespace slipway {

Url parse_load_url(const std::string& url) {
  constexpr UrlScheme kSchemes[] = {{"http", 8000}, {"https", 8000}, {"grpc", 8001}, {"grpcs", 8001}};
  Url parsed = parse_url(url, kSchemes);
  if (!parsed.path.empty() || !parsed.query.empty())
    fail(ErrorCode::kInvalidArgument, "A server's address ends with its port; leave out '{}{}': '{}'", parsed.path,
         parsed.query, url);
  return parsed;
}

}  // namespace slipway
