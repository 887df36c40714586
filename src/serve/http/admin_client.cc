// A small HTTP client over Boost.Beast: resolve, connect, write, read, each step asynchronous on a private io_context
// that is run until the one deadline, so that no step can block beyond it. TLS by Asio's stream over our context.
#include "serve/http/admin_client.h"

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <charconv>

#include "base/error.h"

namespace slipway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;

constexpr uint64_t kMaxReplyBytes = uint64_t{64} << 20;

struct Address {
  bool tls = false;
  std::string host, port, prefix, query;
  std::string authority() const { return host.find(':') == std::string::npos ? host : "[" + host + "]"; }
};

Address parse_url(const std::string& url) {
  constexpr std::string_view kPlain = "http://", kSecure = "https://";
  std::string_view rest = url;
  const auto refuse = [&] {
    fail(ErrorCode::kInvalidArgument, "An address looks like http://HOST:PORT or https://HOST:PORT; correct it: '{}'",
         url.substr(0, 256));
  };
  for (const char c : url)
    if (c <= ' ' || c == 0x7f) refuse();
  Address a;
  a.tls = rest.starts_with(kSecure);
  if (a.tls || rest.starts_with(kPlain))
    rest.remove_prefix(a.tls ? kSecure.size() : kPlain.size());
  else if (rest.find("://") != std::string_view::npos)
    refuse();
  rest = rest.substr(0, rest.find('#'));
  const size_t question = std::min(rest.find('?'), rest.size());
  a.query = rest.substr(question);
  rest = rest.substr(0, question);
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) a.prefix = rest.substr(slash);
  while (a.prefix.ends_with('/')) a.prefix.pop_back();
  rest = rest.substr(0, slash);
  std::string_view port = a.tls ? "443" : "80";
  if (rest.starts_with('[')) {
    const size_t end = rest.find(']');
    if (end == std::string_view::npos) refuse();
    a.host = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    if (rest.starts_with(':'))
      port = rest.substr(1);
    else if (!rest.empty())
      refuse();
  } else {
    const size_t colon = rest.find(':');
    a.host = rest.substr(0, colon);
    if (colon != std::string_view::npos) port = rest.substr(colon + 1);
  }
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (a.host.empty() || a.host.find('@') != std::string::npos || error != std::errc() ||
      end != port.data() + port.size() || number == 0)
    refuse();
  a.port = port;
  return a;
}

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

http::request<http::string_body> request_of(const Address& address, const std::string& method,
                                            const std::string& target, const std::string& body,
                                            const std::string& token) {
  http::request<http::string_body> request;
  request.version(11);
  request.method_string(method);
  const std::string path = address.prefix + (target.empty() ? address.query : target);
  request.target(path.starts_with('/') ? path : "/" + path);
  request.set(http::field::host, address.authority() + ":" + address.port);
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
  call.step("answer", [&](auto handler) { http::async_read(stream, buffer, parser, handler); });
  auto& reply = parser.get();
  return {.status = static_cast<int>(reply.result_int()),
          .content_type = std::string(reply[http::field::content_type]),
          .body = std::move(reply.body())};
}

AdminReply secure_exchange(Call& call, const Address& address, const TlsFiles& tls,
                           const http::request<http::string_body>& request) {
  const std::shared_ptr<ssl_ctx_st> ours = tls_client_context(tls);
  SSL_CTX_up_ref(ours.get());
  asio::ssl::context context(ours.get());  // gives back that reference
  asio::ssl::stream<Tcp::socket&> stream(call.socket, context);
  tls_expect_host(stream.native_handle(), address.host);
  if (call.run("handshake", [&](auto h) { stream.async_handshake(asio::ssl::stream_base::client, h); }))
    fail(ErrorCode::kIo,
         "There is no trusted server; check name and port, and give its authority with --tls-ca: {} ({})", call.where,
         tls_failure(stream.native_handle()));
  return exchange(call, stream, request);
}

}  // namespace

AdminReply admin_call(const std::string& url, const std::string& method, const std::string& target,
                      const std::string& body, const std::string& token, int64_t timeout_ms, const TlsFiles& tls) {
  const Address address = parse_url(url);
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
        resolver.async_resolve(address.host, address.port,
                               [&found, handler](auto ec, Tcp::resolver::results_type r) { found = r, handler(ec); });
      });
    else
      found = Tcp::resolver::results_type::create(
          Tcp::endpoint(numeric, static_cast<uint16_t>(std::stoi(address.port))), address.host, address.port);
    call.step("connect", [&](auto handler) { asio::async_connect(call.socket, found, handler); });
    const auto request = request_of(address, method, target, body, token);
    return address.tls ? secure_exchange(call, address, tls, request) : exchange(call, call.socket, request);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(ErrorCode::kIo, "The server can't be reached; is it running there? {} ({})", url, error.what());
  }
}

std::string percent_encode(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain)
      out += c;
    else
      out += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out;
}

}  // namespace slipway
