// The part of RFC 3986 that addresses of servers need; no user names, no percent-decoding.
#include "base/url.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace slipway {

std::string Url::authority() const {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

Url parse_url(const std::string& url, std::span<const UrlScheme> schemes) {
  const auto refuse = [&](const char* why) {
    std::vector<std::string> forms;
    for (const UrlScheme& s : schemes) forms.push_back(fmt::format("{}://HOST:PORT", s.name));
    fail(ErrorCode::kInvalidArgument, "An address looks like {}; correct it, for {}: '{}'", fmt::join(forms, " or "),
         why, url.substr(0, 256));
  };
  if (!std::all_of(url.begin(), url.end(), [](char c) { return c > ' ' && c < 0x7f; }))
    refuse("only printable ASCII without spaces can stand in it");
  Url parsed;
  std::string_view rest = url;
  const size_t scheme_end = rest.find("://");
  if (scheme_end == std::string_view::npos) refuse("it has no scheme");
  parsed.scheme = rest.substr(0, scheme_end);
  const auto scheme =
      std::find_if(schemes.begin(), schemes.end(), [&](const UrlScheme& s) { return s.name == parsed.scheme; });
  if (scheme == schemes.end()) refuse("it has another scheme");
  rest.remove_prefix(scheme_end + 3);
  rest = rest.substr(0, rest.find('#'));
  const size_t question = std::min(rest.find('?'), rest.size());
  parsed.query = rest.substr(question);
  rest = rest.substr(0, question);
  const size_t slash = std::min(rest.find('/'), rest.size());
  parsed.path = rest.substr(slash);
  while (parsed.path.ends_with('/')) parsed.path.pop_back();
  rest = rest.substr(0, slash);
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos) refuse("the bracket is not closed");
    parsed.host = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
  } else {
    const size_t colon = std::min(rest.find(':'), rest.size());
    parsed.host = rest.substr(0, colon);
    rest.remove_prefix(colon);
    if (rest.find(':', 1) != std::string_view::npos) refuse("brackets are wanted around an IPv6 address");
  }
  if (parsed.host.empty() || parsed.host.find('@') != std::string::npos) refuse("it has no host");
  if (rest.empty()) {
    parsed.port = scheme->port;
    return parsed;
  }
  const std::string_view port = rest.substr(1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), parsed.port);
  if (rest[0] != ':' || error != std::errc() || end != port.data() + port.size() || parsed.port == 0)
    refuse("a port is a number from 1 to 65535");
  return parsed;
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
