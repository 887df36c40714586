// The admin listener: one thread for its connections, more for the handlers, which may block. Those that change
// something have threads of their own: while models are loaded, metrics and dashboard are answered all the same.
//
// Without a token it listens on loopback alone, and only to requests whose Host is loopback too: a web page whose name
// was pointed at 127.0.0.1 in the meantime would otherwise pass as this machine (DNS rebinding).
#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cctype>
#include <cstdlib>
#include <new>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "serve/admin/admin.h"
#include "serve/http/http_listener.h"

namespace slipway {

namespace {

constexpr HttpLimits kLimits{.max_body_bytes = 1 << 20, .max_header_bytes = 16 << 10};

}  // namespace

std::string read_admin_token(const std::string& file) {
  constexpr const char* kVariable = "SLIPWAY_ADMIN_TOKEN";
  constexpr size_t kFewest = 16, kMost = 4096;
  const char* set = std::getenv(kVariable);
  std::string token = !file.empty() ? read_text_file(file, kMost) : set != nullptr ? set : "";
  if (file.empty() && token.empty()) return token;
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.size() < kFewest || token.size() > kMost ||
      !std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; }))
    fail(ErrorCode::kInvalidArgument, "An admin token is {} or more visible ASCII characters; give another one: {}",
         kFewest, file.empty() ? kVariable : file);
  return token;
}

struct AdminPlane::Impl {
  using Methods = std::map<std::string, Handler>;

  Impl(const std::string& host, uint16_t port, std::string t, std::shared_ptr<const TlsIdentity> tls)
      : token(std::move(t)),
        listener({.host = host,
                  .port = port,
                  .limits = kLimits,
                  .max_connections = 128,
                  .make_room = true,
                  .tls = std::move(tls)},
                 [this](std::shared_ptr<HttpExchange> exchange) {
                   const std::string_view method = exchange->request().method;
                   boost::asio::post(method == "GET" || method == "HEAD" ? readers : changers,
                                     [this, e = std::move(exchange)] { e->respond(answer(e->request())); });
                 }) {}

  HttpReply answer(const HttpRequest& http) noexcept;
  HttpReply serve(const HttpRequest& http);
  bool admitted(const HttpRequest& http, const RequestTarget& target) const;
  const Methods* find(const std::string& path) const;

  std::string token;
  std::map<std::string, Methods> handlers;
  boost::asio::thread_pool readers{2}, changers{8};
  HttpListener listener;
};

HttpReply AdminPlane::Impl::answer(const HttpRequest& http) noexcept {
  try {
    try {
      return serve(http);
    } catch (const Error& error) {
      return error_reply(http_status(error.code()), error.what());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      log_error("An admin request failed inside the server: {}", error.what());
      return error_reply(500, fmt::format("The request failed inside the server: {}", error.what()));
    }
  } catch (const std::bad_alloc&) {
    return memory_reply();
  }
}

bool AdminPlane::Impl::admitted(const HttpRequest& http, const RequestTarget& target) const {
  if (bearer_matches(http, token)) return true;
  const auto given = target.query.find("token");
  return given != target.query.end() && same_secret(given->second, token);
}

const AdminPlane::Impl::Methods* AdminPlane::Impl::find(const std::string& path) const {
  const Methods* best = nullptr;
  size_t longest = 0;
  for (const auto& [pattern, methods] : handlers) {
    const bool matches = pattern == path || (pattern.ends_with('/') && path.starts_with(pattern));
    if (!matches || pattern.size() <= longest) continue;
    best = &methods;
    longest = pattern.size();
  }
  return best;
}

HttpReply AdminPlane::Impl::serve(const HttpRequest& http) {
  const RequestTarget target = parse_target(http.target);
  if (token.empty()) {
    if (is_foreign(http, true))
      return error_reply(403, "Without a token the admin port answers to localhost only; start the server with one");
  } else if (!target.path.starts_with("/metrics") && !admitted(http, target)) {
    HttpReply reply = error_reply(401, "The admin port needs the header Authorization: Bearer and its token");
    reply.headers = "WWW-Authenticate: Bearer\r\n";
    return reply;
  }
  const Methods* methods = find(target.path);
  if (!methods) {
    const bool inference = target.path.starts_with("/v2") || target.path.starts_with("/predict");
    return error_reply(
        404, fmt::format("There is nothing at this address{}: {}",
                         inference ? "; this is the admin port, models answer on the HTTP port" : "", target.path));
  }
  const std::string method(http.method == "HEAD" ? "GET" : http.method);
  const auto handler = methods->find(method);
  if (handler == methods->end()) {
    std::string allowed;
    for (const auto& [name, unused] : *methods) allowed += (allowed.empty() ? "" : ", ") + name;
    HttpReply reply = error_reply(405, fmt::format("This address takes {} only", allowed));
    reply.headers = fmt::format("Allow: {}\r\n", allowed);
    return reply;
  }
  if (method != "GET" && !has_json(http))
    return error_reply(415, "Changes need the header Content-Type: application/json");
  const auto* body = reinterpret_cast<const char*>(http.body.data());
  AdminReply made = handler->second(
      {.method = method, .path = target.path, .query = target.query, .body = std::string(body, http.body.size())});
  return {.status = made.status, .content_type = std::move(made.content_type), .body = std::move(made.body)};
}

AdminPlane::AdminPlane(const std::string& host, uint16_t port, std::string token,
                       std::shared_ptr<const TlsIdentity> tls) {
  if (token.empty() && !is_loopback(host))
    fail(ErrorCode::kInvalidArgument,
         "The admin port needs a token on an address that others reach; give one, or listen on 127.0.0.1: {}", host);
  impl_ = std::make_unique<Impl>(host, port, std::move(token), std::move(tls));
}
AdminPlane::~AdminPlane() { stop(); }

void AdminPlane::handle(const std::string& method, const std::string& path, Handler handler) {
  impl_->handlers[path][method] = std::move(handler);
}

void AdminPlane::start() { impl_->listener.start(); }
void AdminPlane::stop() {
  impl_->listener.stop();
  impl_->readers.join();
  impl_->changers.join();
}
uint16_t AdminPlane::port() const { return impl_->listener.port(); }

}  // namespace slipway
