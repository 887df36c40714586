// The client against a socket that answers as scripted.
#include "serve/http/admin_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "base/error.h"

namespace slipway {
namespace {

/// Answers one connection with fixed bytes; silent when there are none.
class OneReply {
 public:
  explicit OneReply(std::string reply) : listener_(::socket(AF_INET, SOCK_STREAM, 0)), reply_(std::move(reply)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
    socklen_t length = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    if (!reply_.empty()) thread_ = std::thread([this] { serve(); });
  }
  ~OneReply() { join(), ::close(listener_); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  std::string url, seen;

 private:
  void serve() {
    const int peer = ::accept(listener_, nullptr, nullptr);
    char buffer[4096];
    while (seen.find("\r\n\r\n") == std::string::npos || (seen.starts_with("POST") && !seen.ends_with("}"))) {
      const ssize_t n = ::read(peer, buffer, sizeof buffer);
      if (n <= 0) break;
      seen.append(buffer, static_cast<size_t>(n));
    }
    EXPECT_EQ(::write(peer, reply_.data(), reply_.size()), static_cast<ssize_t>(reply_.size()));
    ::close(peer);
  }
  int listener_;
  std::string reply_;
  std::thread thread_;
};

ErrorCode code_of(const std::string& url, int64_t timeout_ms = 5000) {
  try {
    admin_call(url, "GET", "/", "", "", timeout_ms);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(AdminClient, SendsTokenAndBodyAndReturnsAnyStatus) {
  OneReply server(
      "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"error\":\"x\"}");
  const AdminReply reply = admin_call(server.url + "/base/", "POST", "/api/x?y=1", "{\"a\":1}", "secret", 5000);
  server.join();
  EXPECT_EQ(reply.status, 409);
  EXPECT_EQ(reply.content_type, "application/json");
  EXPECT_EQ(reply.body, "{\"error\":\"x\"}");
  EXPECT_TRUE(server.seen.starts_with("POST /base/api/x?y=1 HTTP/1.1\r\n")) << server.seen;
  EXPECT_NE(server.seen.find("Authorization: Bearer secret\r\n"), std::string::npos);
  EXPECT_NE(server.seen.find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_TRUE(server.seen.ends_with("\r\n\r\n{\"a\":1}"));
}

TEST(AdminClient, SaysWhatIsWrong) {
  for (const char* url : {"", "ftp://x:1", "http://", "http://x:", "http://x:0", "http://x:70000", "http://[::1", "a b",
                          "http://u@x:80", "http://x:8\r\n"})
    EXPECT_EQ(code_of(url), ErrorCode::kInvalidArgument) << url;
  OneReply silent("");
  EXPECT_EQ(code_of(silent.url, 50), ErrorCode::kDeadline);
  OneReply garbage("no http at all\r\n\r\n");
  EXPECT_EQ(code_of(garbage.url), ErrorCode::kIo);
  OneReply cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
  EXPECT_EQ(code_of(cut.url), ErrorCode::kIo);
  OneReply huge("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
  EXPECT_EQ(code_of(huge.url), ErrorCode::kIo);
  const int port_holder = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(port_holder, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  socklen_t length = sizeof address;
  ::getsockname(port_holder, reinterpret_cast<sockaddr*>(&address), &length);
  EXPECT_EQ(code_of("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port))), ErrorCode::kIo);
  ::close(port_holder);
}

TEST(AdminClient, PercentEncodes) { EXPECT_EQ(percent_encode("a b/ü~1"), "a%20b%2F%C3%BC~1"); }

}  // namespace
}  // namespace slipway
