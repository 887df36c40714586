#pragma once
// A client on a socket for the tests of the HTTP planes: sends any bytes, plain or through TLS, reads responses.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "serve/tls.h"

namespace slipway {

struct TestResponse {
  int status = 0;                                   ///< 0: the connection ended instead
  std::map<std::string, std::string> headers = {};  ///< names in lower case
  std::string body = {};
};

class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (receive_buffer_bytes)
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~TestClient() { close(); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  /// Ends the connection with a reset.
  void reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void end_of_input() { ::shutdown(fd_, SHUT_WR); }

  /// From now on TLS; the handshake comes with the first bytes.
  void secure(ssl_ctx_st* context, const std::string& host = "localhost") {
    tls_ = std::make_unique<TlsSession>(context, fd_, host);
  }
  std::string failure() const { return tls_->failure(); }

  /// False when the peer takes no more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      const ssize_t sent = tls_ ? stepped([&] {
        return tls_->write({&part, 1});
      })
                                : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  TestResponse receive(bool head_only = false) {
    size_t head_end;
    while ((head_end = buffer_.find("\r\n\r\n")) == std::string::npos)
      if (!more()) return {};
    TestResponse response;
    const std::string head = buffer_.substr(0, head_end + 2);
    buffer_.erase(0, head_end + 4);
    response.status = std::atoi(head.c_str() + 9);
    for (size_t at = head.find("\r\n") + 2; at < head.size();) {
      const size_t end = head.find("\r\n", at), colon = head.find(':', at);
      std::string name = head.substr(at, colon - at);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      response.headers[name] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    const size_t length = head_only || response.status == 100 ? 0 : std::stoull(response.headers["content-length"]);
    while (buffer_.size() < length)
      if (!more()) return {};
    response.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return response;
  }

  TestResponse ask(std::string_view bytes) {
    send(bytes);
    return receive();
  }
  TestResponse get(const std::string& path, const std::string& headers = "") {
    return ask("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  }
  TestResponse post(const std::string& path, const std::string& body, const std::string& headers = "") {
    return ask("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
               "\r\n" + headers + "\r\n" + body);
  }

  /// True when the peer ends the connection (in an orderly way or not) without another byte.
  bool ended() { return buffer_.empty() && !more() && !timed_out_; }

 private:
  /// Waits for the socket as long as the step does.
  template <typename Work>
  ssize_t stepped(Work work) {
    while (true) {
      const TlsSession::Step step = work();
      if (step.broken()) errno = ECONNRESET;
      if (step.waits_for == 0) return step.bytes;
      pollfd entry{fd_, step.waits_for, 0};
      if (::poll(&entry, 1, 20'000) <= 0) return errno = EAGAIN, -1;
    }
  }
  bool more() {
    char piece[65536];
    const ssize_t got = tls_ ? stepped([&] { return tls_->read(std::as_writable_bytes(std::span(piece))); })
                             : ::recv(fd_, piece, sizeof piece, 0);
    timed_out_ = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (got > 0) buffer_.append(piece, static_cast<size_t>(got));
    return got > 0;
  }

  int fd_;
  std::unique_ptr<TlsSession> tls_;
  bool connected_ = false, timed_out_ = false;
  std::string buffer_;
};

}  // namespace slipway
