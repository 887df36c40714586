// The client against a socket that answers as scripted.
#include "serve/admin/admin_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/url.h"
#include "serve/http/scripted_server.h"

namespace slipway {
namespace {

ErrorCode code_of_call(const std::string& url, int64_t timeout_ms = 5000) {
  try {
    admin_call(url, "GET", "/", "", "", timeout_ms);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(AdminClient, SendsTokenAndBodyAndReturnsAnyStatus) {
  ScriptedServer server(
      {"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"error\":\"x\"}"});
  const AdminReply reply = admin_call(server.url + "/base/", "POST", "/api/x?y=1", "{\"a\":1}", "secret", 5000);
  server.join();
  EXPECT_EQ(reply.status, 409);
  EXPECT_EQ(reply.content_type, "application/json");
  EXPECT_EQ(reply.body, "{\"error\":\"x\"}");
  EXPECT_TRUE(server.seen[0].starts_with("POST /base/api/x?y=1 HTTP/1.1\r\n")) << server.seen[0];
  EXPECT_NE(server.seen[0].find("Authorization: Bearer secret\r\n"), std::string::npos);
  EXPECT_NE(server.seen[0].find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_TRUE(server.seen[0].ends_with("\r\n\r\n{\"a\":1}"));
}

TEST(AdminClient, AWholeUrlNeedsNoTarget) {
  ScriptedServer server({"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"});
  EXPECT_EQ(admin_call(server.url + "?a=b", "POST", "", "{}", "", 5000).status, 200);
  server.join();
  EXPECT_TRUE(server.seen[0].starts_with("POST /?a=b HTTP/1.1\r\n")) << server.seen[0];
}

TEST(AdminClient, SaysWhatIsWrong) {
  for (const char* url : {"", "ftp://x:1", "http://", "http://x:", "http://x:0", "http://x:70000", "http://[::1", "a b",
                          "http://u@x:80", "http://x:8\r\n"})
    EXPECT_EQ(code_of_call(url), ErrorCode::kInvalidArgument) << url;
  ScriptedServer silent({});
  EXPECT_EQ(code_of_call(silent.url, 50), ErrorCode::kDeadline);
  ScriptedServer garbage({"no http at all\r\n\r\n"});
  EXPECT_EQ(code_of_call(garbage.url), ErrorCode::kIo);
  ScriptedServer cut({"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"});
  EXPECT_EQ(code_of_call(cut.url), ErrorCode::kIo);
  ScriptedServer huge({"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"});
  EXPECT_EQ(code_of_call(huge.url), ErrorCode::kIo);
  const int port_holder = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(port_holder, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  socklen_t length = sizeof address;
  ::getsockname(port_holder, reinterpret_cast<sockaddr*>(&address), &length);
  EXPECT_EQ(code_of_call("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port))), ErrorCode::kIo);
  ::close(port_holder);
}

TEST(AdminClient, PercentEncodes) { EXPECT_EQ(percent_encode("a b/ü~1"), "a%20b%2F%C3%BC~1"); }

}  // namespace
}  // namespace slipway
