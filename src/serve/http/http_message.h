#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

struct HttpHeader {
  std::string_view name, value;
};

/// A request read whole. Its strings point into the connection's buffer and live until it is answered; the body lives
/// as long as `body_owner` and is followed by kBodyPadding readable bytes.
struct HttpRequest {
  std::string_view method, target;
  std::vector<HttpHeader> headers;
  std::span<const std::byte> body = {};
  std::shared_ptr<const void> body_owner;
  int64_t arrival_ns = 0;  ///< monotonic: the last byte was there
  bool keep_alive = false;
  bool http_1_0 = false;

  /// The first header of that name, in any case; empty when there is none.
  std::string_view header(std::string_view name) const;
  bool has_header(std::string_view name) const;
};

/// Sent as one gather write: the head, `body`, `tail`.
struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";  ///< left out when there is no body
  std::string headers = {};                       ///< further lines, each ending in "\r\n"
  std::string body = {};
  std::vector<std::span<const std::byte>> tail = {};
  std::shared_ptr<const void> owner = {};  ///< keeps `tail` alive until it is sent
  bool close = false;                      ///< the connection ends after it
};

/// {"error": message}; 503 comes with Retry-After.
HttpReply error_reply(int status, std::string_view message);
/// 503 for want of memory; without a body where there is none even for that.
HttpReply memory_reply() noexcept;
/// The status line and all headers up to the empty line.
std::string reply_head(const HttpReply& reply, uint64_t body_bytes, std::string_view connection);
/// `text` as a JSON string with its quotes; bytes that are no UTF-8 become U+FFFD.
std::string json_string(std::string_view text);

/// A request under way on a connection.
class HttpExchange {
 public:
  virtual const HttpRequest& request() const = 0;
  /// Exactly once, on any thread; `request()` is gone afterwards.
  virtual void respond(HttpReply&& reply) = 0;

 protected:
  ~HttpExchange() = default;
};

/// A request's target, taken apart and percent-decoded.
struct RequestTarget {
  std::string path;                   ///< "/v2/models/a b/infer"
  std::vector<std::string> segments;  ///< "v2", "models", "a b", "infer"; without an empty last one
  std::map<std::string, std::string> query;
};
/// Fails with kInvalidArgument for a target that is no path, a broken percent-encoding or an encoded NUL.
RequestTarget parse_target(std::string_view target);

/// A name or address of this machine itself: "localhost", "127.0.0.1", "::1".
bool is_loopback(std::string_view host);
/// Whether a web page of another origin may have sent it: its Origin is not what Host names, or, where `loopback` says
/// that no other name leads here, Host names another machine (DNS rebinding).
bool is_foreign(const HttpRequest& request, bool loopback);
/// application/json, whatever its parameters.
bool has_json(const HttpRequest& request);

/// Whether the request carries `Authorization: Bearer token`. Takes as long whatever the token sent is.
bool bearer_matches(const HttpRequest& request, std::string_view token);
/// Equal, in a time that depends on the lengths alone.
bool same_secret(std::string_view given, std::string_view secret);

}  // namespace slipway
