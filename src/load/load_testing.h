#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace slipway {

/// A small HTTP server for tests: a thread for each connection, keep-alive, whole requests to a handler.
class TestServer {
 public:
  struct Request {
    std::string method, path, head, body;
  };
  /// Returns the response as it goes over the wire; empty closes the connection.
  using Handler = std::function<std::string(const Request&)>;

  explicit TestServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    SLIPWAY_CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    SLIPWAY_CHECK(::listen(listener_, 256) == 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~TestServer() { stop(); }

  void stop() {
    if (!acceptor_.joinable()) return;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int64_t requests() const { return requests_; }
  int64_t connections() const { return connections_; }

  static std::string reply(const std::string& body, int status = 200, const std::string& more = "") {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
           more + "\r\n" + body;
  }

 private:
  void accept_all() {
    while (true) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      ++connections_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] { serve(fd); });
    }
  }

  void serve(int fd) {
    std::string bytes;
    Request request;
    while (next(fd, bytes, request)) {
      ++requests_;
      const std::string response = handler_(request);
      if (response.empty()) break;
      if (::send(fd, response.data(), response.size(), MSG_NOSIGNAL) < 0) break;
      if (response.find("Connection: close") != std::string::npos ||
          request.head.find("Connection: close") != std::string::npos)
        break;
    }
    const std::lock_guard lock(mutex_);
    std::erase(open_, fd);
    ::close(fd);
  }

  static bool next(int fd, std::string& bytes, Request& request) {
    size_t end = 0, length = 0;
    while (true) {
      if (end = bytes.find("\r\n\r\n"); end != std::string::npos) {
        const size_t at = bytes.find("\r\nContent-Length: ");
        length = at < end ? std::stoul(bytes.substr(at + 18)) : 0;
        if (bytes.size() >= end + 4 + length) break;
      }
      char chunk[64 << 10];
      const ssize_t n = ::recv(fd, chunk, sizeof chunk, 0);
      if (n <= 0) return false;
      bytes.append(chunk, static_cast<size_t>(n));
    }
    request.head = bytes.substr(0, end);
    request.body = bytes.substr(end + 4, length);
    const size_t space = bytes.find(' ');
    request.method = bytes.substr(0, space);
    request.path = bytes.substr(space + 1, bytes.find(' ', space + 1) - space - 1);
    bytes.erase(0, end + 4 + length);
    return true;
  }

  Handler handler_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<int64_t> requests_{0}, connections_{0};
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
};

}  // namespace slipway
