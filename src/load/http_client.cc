// The client's side of HTTP/1.1 (RFC 9112) as far as a load generator needs it: connections and heads of responses.
#include "load/http_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/clock.h"
#include "base/error.h"

namespace slipway {
namespace {

constexpr size_t kMaxHeadBytes = 64 << 10;

struct Socket {
  int fd = -1;
  ~Socket() {
    if (fd >= 0) ::close(fd);
  }
};

/// Waits for `events`; false once the time is over.
bool wait_for(int fd, short events, int64_t deadline_ns) {
  while (true) {
    const int64_t left_ms = (deadline_ns - now_ns()) / 1'000'000;
    if (left_ms < 0) return false;
    pollfd entry{fd, events, 0};
    const int n = ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left_ms + 1, 1'000)));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

bool parse_number(std::string_view text, uint64_t& value) {
  const char* end = text.data() + text.size();
  return !text.empty() && std::from_chars(text.data(), end, value) == std::from_chars_result{end, std::errc()};
}

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

int SocketAddress::connect() const {
  const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0 || errno == EINPROGRESS) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

SocketAddress reach(const Url& url, double timeout_seconds) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int code = ::getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &list); code != 0)
    fail(ErrorCode::kIo, "The server's name is not known; check the URL: {}: {}", url.host, ::gai_strerror(code));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, ::freeaddrinfo);
  const int64_t deadline = now_ns() + static_cast<int64_t>(timeout_seconds * 1e9);
  int error = ETIMEDOUT;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    const Socket socket{address.connect()};
    if (socket.fd < 0)
      error = errno;
    else if (!wait_for(socket.fd, POLLOUT, deadline))
      error = ETIMEDOUT;
    else if (error = socket_error(socket.fd); error == 0)
      return address;
  }
  fail(ErrorCode::kIo, "The server can't be reached; check that it runs there: {}: {}", url.authority(),
       std::strerror(error));
}

HeadState parse_response_head(std::string_view bytes, ResponseHead& head) {
  const size_t end = bytes.substr(0, kMaxHeadBytes).find("\r\n\r\n");
  constexpr std::string_view version = "HTTP/1.";
  if (bytes.substr(0, version.size()) != version.substr(0, bytes.size())) return HeadState::kMalformed;
  if (end == std::string_view::npos)
    return bytes.size() < kMaxHeadBytes ? HeadState::kIncomplete : HeadState::kMalformed;
  uint64_t status = 0;
  if (end < 12 || bytes[8] != ' ' || !parse_number(bytes.substr(9, 3), status)) return HeadState::kMalformed;
  head = {.head_bytes = end + 4,
          .status = static_cast<int>(status),
          .until_close = status != 204 && status != 304,
          .keep_alive = bytes[7] != '0',
          .inference_header_bytes = 0};
  std::string_view lines = bytes.substr(0, end + 2);
  lines.remove_prefix(lines.find("\r\n") + 2);
  while (!lines.empty()) {
    const size_t stop = lines.find("\r\n");
    const std::string_view line = lines.substr(0, stop);
    lines.remove_prefix(stop + 2);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || line[0] == ' ' || line[0] == '\t') return HeadState::kMalformed;
    const std::string_view name = line.substr(0, colon);
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    if (same_name(name, "Content-Length")) {
      if (!parse_number(value, head.body_bytes)) return HeadState::kMalformed;
      head.until_close = false;
    } else if (same_name(name, "Connection")) {
      if (same_name(value, "close")) head.keep_alive = false;
      if (same_name(value, "keep-alive")) head.keep_alive = true;
    } else if (same_name(name, "Inference-Header-Content-Length")) {
      if (!parse_number(value, head.inference_header_bytes)) return HeadState::kMalformed;
    } else if (same_name(name, "Transfer-Encoding")) {
      return HeadState::kMalformed;
    }
  }
  if (head.until_close) head.keep_alive = false;
  return HeadState::kComplete;
}

}  // namespace slipway
