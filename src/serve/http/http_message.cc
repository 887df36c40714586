// HTTP messages as values: header look-up, targets (RFC 3986, sections 2.1 and 3.3), the head of a response.
#include "serve/http/http_message.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"

namespace slipway {

namespace {

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

const char* reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Entity";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
  }
  return status < 400 ? "OK" : "Error";
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decoded(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0 || (high == 0 && low == 0))
        fail(ErrorCode::kInvalidArgument, "The address holds a % that is not followed by a byte's two hex digits: {}",
             text.substr(i, 3));
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const HttpHeader& h : headers)
    if (same_name(h.name, name)) return h.value;
  return {};
}

bool HttpRequest::has_header(std::string_view name) const {
  return std::any_of(headers.begin(), headers.end(), [&](const HttpHeader& h) { return same_name(h.name, name); });
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

HttpReply error_reply(int status, std::string_view message) {
  HttpReply reply{.status = status, .body = "{\"error\":" + json_string(message) + "}"};
  if (status == 503) reply.headers = "Retry-After: 1\r\n";
  return reply;
}

HttpReply memory_reply() noexcept {
  try {
    return error_reply(503, "There is no memory for the request now; try again later");
  } catch (const std::bad_alloc&) {
    return {.status = 503, .content_type = {}};
  }
}

std::string reply_head(const HttpReply& reply, uint64_t body_bytes, std::string_view connection) {
  fmt::basic_memory_buffer<char, 512> out;
  const auto end = std::back_inserter(out);
  fmt::format_to(end, "HTTP/1.1 {} {}\r\nContent-Length: {}\r\n", reply.status, reason_phrase(reply.status),
                 body_bytes);
  if (body_bytes) fmt::format_to(end, "Content-Type: {}\r\n", reply.content_type);
  if (!connection.empty()) fmt::format_to(end, "Connection: {}\r\n", connection);
  fmt::format_to(end, "{}\r\n", reply.headers);
  return fmt::to_string(out);
}

RequestTarget parse_target(std::string_view target) {
  // A proxy's absolute form: the path begins after the authority.
  for (const std::string_view scheme : {"http://", "https://"})
    if (target.starts_with(scheme)) target.remove_prefix(std::min(target.find('/', scheme.size()), target.size()));
  if (!target.starts_with('/')) fail(ErrorCode::kInvalidArgument, "The address must begin with a slash: {}", target);
  target = target.substr(0, target.find('#'));
  RequestTarget out;
  const size_t question = std::min(target.find('?'), target.size());
  std::string_view path = target.substr(0, question), query = target.substr(std::min(question + 1, target.size()));
  out.path = percent_decoded(path, false);
  path.remove_prefix(1);
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    out.segments.push_back(percent_decoded(path.substr(0, slash), false));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  while (!query.empty()) {
    const size_t ampersand = std::min(query.find('&'), query.size());
    const std::string_view item = query.substr(0, ampersand);
    const size_t equals = std::min(item.find('='), item.size());
    if (!item.empty())
      out.query[percent_decoded(item.substr(0, equals), true)] =
          percent_decoded(item.substr(std::min(equals + 1, item.size())), true);
    query.remove_prefix(std::min(ampersand + 1, query.size()));
  }
  return out;
}

bool is_loopback(std::string_view host) {
  if (same_name(host, "localhost")) return true;
  boost::system::error_code ec;
  const auto address = boost::asio::ip::make_address(std::string(host), ec);
  return !ec && address.is_loopback();
}

bool is_foreign(const HttpRequest& request, bool loopback) {
  const std::string_view host = request.header("host");
  if (loopback && !host.empty()) {
    // "[::1]:8002" → "::1", "localhost:8002" → "localhost".
    const std::string_view name =
        host[0] == '[' ? host.substr(1, std::min(host.find(']'), host.size()) - 1) : host.substr(0, host.find(':'));
    if (!is_loopback(name)) return true;
  }
  if (!request.has_header("origin")) return false;
  std::string_view origin = request.header("origin");
  const size_t scheme = origin.find("://");
  return scheme == std::string_view::npos || !same_name(origin.substr(scheme + 3), host);
}

bool has_json(const HttpRequest& request) {
  std::string_view type = request.header("content-type");
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return same_name(type, "application/json");
}

bool same_secret(std::string_view given, std::string_view secret) {
  return given.size() == secret.size() && CRYPTO_memcmp(given.data(), secret.data(), secret.size()) == 0;
}

bool bearer_matches(const HttpRequest& request, std::string_view token) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view value = request.header("authorization");
  if (value.size() < kBearer.size() || !same_name(value.substr(0, kBearer.size()), kBearer)) return false;
  return !token.empty() && same_secret(value.substr(kBearer.size()), token);
}

}  // namespace slipway
