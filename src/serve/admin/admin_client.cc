// A small HTTP client over Boost.Beast: resolve, connect, write, read, each step asynchronous on a private io_context
// that is run until the one deadline, so that no step can block beyond it. TLS by Asio's stream over our context.
#include "serve/admin/admin_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/error.h"
#include "base/url.h"

namespace slipway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;

constexpr uint64_t kMaxReplyBytes = uint64_t{64} << 20;

constexpr UrlScheme kSchemes[] = {{"http", 80}, {"https", 443}};

struct Call {
  asio::io_context context{1};
  Tcp::socket socket{context};
  std::chrono::steady_clock::time_point deadline;
  std::string where;

  /// Starts one step and runs it to its end; `start` gets the handler.
  template <typename Start>
  boost::system::error_code run(const char* what, Start start) {
    boost::system::error_code result;
    bool done = false;
    start([&](boost::system::error_code ec, auto&&...) { result = ec, done = true; });
    context.restart();
    context.run_until(deadline);
    if (!done) {
      boost::system::error_code ignored;
      socket.close(ignored);
      context.stop();
      fail(ErrorCode::kDeadline, "The server did not answer in time; is it overloaded, or the address wrong? {} ({})",
           where, what);
    }
    return result;
  }

  template <typename Start>
  void step(const char* what, Start start) {
    if (const boost::system::error_code result = run(what, start))
      fail(ErrorCode::kIo, "The server can't be reached; is it running there? {} ({}: {})", where, what,
           result.message());
  }
};

http::request<http::string_body> request_of(const Url& address, const std::string& method, const std::string& target,
                                            const std::string& body, const std::string& token) {
  http::request<http::string_body> request;
  request.version(11);
  request.method_string(method);
  const std::string path = address.path + (target.empty() ? address.query : target);
  request.target(path.starts_with('/') ? path : "/" + path);
  request.set(http::field::host, address.authority());
  request.set(http::field::user_agent, "slipway/" SLIPWAY_VERSION);
  request.set(http::field::connection, "close");
  request.set(http::field::accept, "application/json");
  if (!token.empty()) request.set(http::field::authorization, "Bearer " + token);
  if (!body.empty() || method != "GET") request.set(http::field::content_type, "application/json");
  request.body() = body;
  request.prepare_payload();
  return request;
}

template <typename Stream>
AdminReply exchange(Call& call, Stream& stream, const http::request<http::string_body>& request) {
  call.step("send", [&](auto handler) { http::async_write(stream, request, handler); });
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxReplyBytes);
  parser.skip(request.method() == http::verb::head);
  if (const auto fault = call.run("answer", [&](auto h) { http::async_read(stream, buffer, parser, h); }))
    fail(ErrorCode::kIo, "What answers there speaks no HTTP; check the port, and http or https: {} ({})", call.where,
         fault.message());
  auto& reply = parser.get();
  return {.status = static_cast<int>(reply.result_int()),
          .content_type = std::string(reply[http::field::content_type]),
          .body = std::move(reply.body())};
}

AdminReply secure_exchange(Call& call, const Url& address, const TlsFiles& tls,
                           const http::request<http::string_body>& request) {
  const std::shared_ptr<ssl_ctx_st> ours = tls_client_context(tls);
  SSL_CTX_up_ref(ours.get());
  asio::ssl::context context(ours.get());  // gives back that reference
  asio::ssl::stream<Tcp::socket&> stream(call.socket, context);
  tls_expect_host(stream.native_handle(), address.host);
  if (call.run("handshake", [&](auto h) { stream.async_handshake(asio::ssl::stream_base::client, h); }))
    fail(ErrorCode::kIo,
         "There is no trusted server; check name and port, that it speaks https, and its authority (--tls-ca): {} ({})",
         call.where, tls_failure(stream.native_handle()));
  return exchange(call, stream, request);
}

}  // namespace

AdminReply admin_call(const std::string& url, const std::string& method, const std::string& target,
                      const std::string& body, const std::string& token, int64_t timeout_ms, const TlsFiles& tls) {
  const Url address = parse_url(url.find("://") == std::string::npos ? "http://" + url : url, kSchemes);
  for (const std::string& part : {method, target, token})
    for (const char c : part)
      if (c <= ' ' || c == 0x7f)
        fail(ErrorCode::kInvalidArgument, "Spaces and control characters can't be sent in a path or token: {}", url);
  try {
    Call call;
    call.where = url;
    call.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    Tcp::resolver resolver(call.context);
    Tcp::resolver::results_type found;
    boost::system::error_code not_numeric;
    const auto numeric = asio::ip::make_address(address.host, not_numeric);
    if (not_numeric)
      call.step("name", [&](auto handler) {
        resolver.async_resolve(address.host, std::to_string(address.port),
                               [&found, handler](auto ec, Tcp::resolver::results_type r) { found = r, handler(ec); });
      });
    else
      found = Tcp::resolver::results_type::create(Tcp::endpoint(numeric, address.port), address.host,
                                                  std::to_string(address.port));
    call.step("connect", [&](auto handler) { asio::async_connect(call.socket, found, handler); });
    const auto request = request_of(address, method, target, body, token);
    return address.tls() ? secure_exchange(call, address, tls, request) : exchange(call, call.socket, request);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(ErrorCode::kIo, "The server can't be reached; is it running there? {} ({})", url, error.what());
  }
}

}  // namespace slipway
