#pragma once
#include "base/url.h"

namespace slipway {

/// Where a load goes: http://HOST[:8000] or grpc://HOST[:8001], https:// and grpcs:// with TLS, nothing behind it but a
/// slash. Fails with kInvalidArgument.
Url parse_load_url(const std::string& url);
inline bool is_grpc(const Url& url) { return url.scheme.starts_with("grpc"); }

}  // namespace slipway
