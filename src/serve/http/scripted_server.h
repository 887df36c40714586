#pragma once
// For tests of clients: a socket that answers each connection with given bytes.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace slipway {

/// Answers one connection with each reply, in order, once a request with as much body as it says has come; without
/// replies it accepts nothing. `url` points at it; `seen` holds the requests, after join().
class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<std::string> replies)
      : listener_(::socket(AF_INET, SOCK_STREAM, 0)), replies_(std::move(replies)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    socklen_t length = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    if (!replies_.empty()) thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() { join(), ::close(listener_); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  std::string url;
  std::vector<std::string> seen;

 private:
  static bool whole(const std::string& request) {
    const size_t head = request.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    const size_t length = request.find("Content-Length: ");
    const size_t body = length < head ? std::stoul(request.substr(length + 16)) : 0;
    return request.size() >= head + 4 + body;
  }
  void serve() {
    for (const std::string& reply : replies_) {
      const int peer = ::accept(listener_, nullptr, nullptr);
      std::string request;
      char buffer[4096];
      while (!whole(request)) {
        const ssize_t n = ::read(peer, buffer, sizeof buffer);
        if (n <= 0) break;
        request.append(buffer, static_cast<size_t>(n));
      }
      seen.push_back(std::move(request));
      EXPECT_EQ(::write(peer, reply.data(), reply.size()), static_cast<ssize_t>(reply.size()));
      ::close(peer);
    }
  }
  int listener_;
  std::vector<std::string> replies_;
  std::thread thread_;
};

}  // namespace slipway
