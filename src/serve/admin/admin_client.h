#pragma once
#include <cstdint>
#include <string>

#include "serve/admin/admin.h"
#include "serve/tls.h"

namespace slipway {

/// One HTTP/1.1 request on a connection of its own. `url` is http://HOST:PORT, or https:// with `tls`, with an optional
/// path in front of `target` ("/api/series?since=3"; empty: the URL's own path and query); a `body` goes out as
/// application/json, `token` as Authorization: Bearer. Blocks for at most `timeout_ms`. Any answer returns, whatever
/// its status. Fails with kInvalidArgument (URL, files of `tls`), kIo (no server there or not a trusted one, a broken
/// answer or one over 64 MiB), kDeadline.
AdminReply admin_call(const std::string& url, const std::string& method, const std::string& target,
                      const std::string& body, const std::string& token, int64_t timeout_ms, const TlsFiles& tls = {});

}  // namespace slipway
