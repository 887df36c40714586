#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "data/test_folder.h"
#include "serve/admin/admin.h"
#include "serve/admin/admin_repository.h"
#include "serve/http/http_testing.h"
#include "serve/server.h"

namespace slipway {
namespace {

void add_routes(AdminPlane& plane) {
  plane.handle("GET", "/metrics", [](const AdminRequest&) { return AdminReply{200, "text/plain", "up 1\n"}; });
  plane.handle("GET", "/", [](const AdminRequest& r) { return AdminReply{.body = "\"root " + r.path + "\""}; });
  plane.handle("GET", "/api/", [](const AdminRequest& r) { return AdminReply{.body = "\"api " + r.path + "\""}; });
  plane.handle("POST", "/api/echo", [](const AdminRequest& r) {
    const auto x = r.query.find("x");
    return AdminReply{.body = r.body + (x == r.query.end() ? "" : x->second)};
  });
  plane.handle("POST", "/api/fail",
               [](const AdminRequest&) -> AdminReply { fail(ErrorCode::kNotFound, "There is no such rollout"); });
}

constexpr const char* kJson = "Content-Type: application/json\r\n";

TEST(AdminPlane, TheLongestPathAnswers) {
  AdminPlane plane("127.0.0.1", 0, "");
  add_routes(plane);
  plane.start();
  TestClient client(plane.port());
  const TestResponse metrics = client.get("/metrics");
  EXPECT_EQ(metrics.body, "up 1\n");
  EXPECT_EQ(metrics.headers.at("content-type"), "text/plain");
  EXPECT_EQ(client.get("/x/y").body, "\"root /x/y\"");
  EXPECT_EQ(client.get("/api/rollout/a%20b").body, "\"api /api/rollout/a b\"");
  EXPECT_EQ(client.post("/api/echo?x=%21", "{}", kJson).body, "{}!");
  const TestResponse failed = client.post("/api/fail", "", kJson);
  EXPECT_EQ(failed.status, 404);
  EXPECT_EQ(failed.body, "{\"error\":\"There is no such rollout\"}");
  const TestResponse wrong = client.get("/api/echo");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST");
  client.send("HEAD /metrics HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.receive(true).headers.at("content-length"), "5");
  EXPECT_EQ(client.post("/api/echo", std::string((1 << 20) + 1, ' '), kJson).status, 413);
}

TEST(AdminPlane, OtherOriginsCannotChangeAnything) {
  AdminPlane plane("127.0.0.1", 0, "");
  add_routes(plane);
  plane.start();
  TestClient client(plane.port());
  EXPECT_EQ(client.post("/api/echo", "{}", "Content-Type: text/plain\r\n").status, 415);
  EXPECT_EQ(client.post("/api/echo", "{}").status, 415);
  EXPECT_EQ(client.post("/api/echo", "{}", "Content-Type: Application/JSON ; charset=utf-8\r\n").status, 200);
  EXPECT_EQ(client.ask("GET / HTTP/1.1\r\nHost: rebound.example:8002\r\n\r\n").status, 403);
  EXPECT_EQ(client.ask("GET / HTTP/1.1\r\nHost: [::1]:8002\r\n\r\n").status, 200);
  EXPECT_EQ(client.get("/", "Origin: http://evil.example\r\n").status, 403);
  EXPECT_EQ(client.get("/", "Origin: http://localhost\r\n").status, 200);
}

TEST(AdminPlane, ATokenIsLongAndVisibleWhereverItComesFrom) {
  const TestFolder folder;
  const auto read = [&](const std::string& text, bool from_file) {
    ::setenv("SLIPWAY_ADMIN_TOKEN", from_file ? "" : text.c_str(), 1);
    std::string token,
        error = error_of([&] { token = read_admin_token(from_file ? folder.write("token", text) : ""); });
    ::unsetenv("SLIPWAY_ADMIN_TOKEN");
    return error.empty() ? token : "refused";
  };
  for (const bool from_file : {true, false}) {
    EXPECT_EQ(read("0123456789abcdef", from_file), "0123456789abcdef");
    EXPECT_EQ(read("0123456789abcdef\r\n", from_file), "0123456789abcdef");
    for (const char* bad : {"0123456789abcde", "0123456789abcdef g", "0123456789abcdef\tg", "0123456789abcdef\n0123",
                            "0123456789abcdeü", "0123456789abcdef\x7f", "\n"})
      EXPECT_EQ(read(bad, from_file), "refused") << bad;
    EXPECT_EQ(read("", from_file), from_file ? "refused" : "");
  }
  EXPECT_EQ(read_admin_token(""), "");
}

TEST(AdminPlane, ARepositoryIndexIsJsonWhateverNamesAreThere) {
  const TestFolder folder;
  folder.write("repository/a\xff\x1b[2J\n/1/model.onnx", "no model \xfe");
  Server server({.repository = folder.path("repository")});
  server.load_all();
  AdminPlane plane("127.0.0.1", 0, "");
  serve_repository(plane, server);
  plane.start();
  const TestResponse index = TestClient(plane.port()).get("/v2/repository/index");
  EXPECT_EQ(index.status, 200) << index.body;
  const auto entries = nlohmann::json::parse(index.body);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0]["name"], "a\xEF\xBF\xBD\x1b[2J\n");
  EXPECT_EQ(entries[0]["state"], "UNAVAILABLE");
}

TEST(AdminPlane, TheTokenOpensIt) {
  EXPECT_THROW(AdminPlane("0.0.0.0", 0, ""), Error);
  AdminPlane plane("0.0.0.0", 0, "s3cret");
  add_routes(plane);
  plane.start();
  TestClient client(plane.port());
  EXPECT_EQ(client.get("/metrics").status, 200);
  const TestResponse refused = client.get("/");
  EXPECT_EQ(refused.status, 401);
  EXPECT_TRUE(refused.body.starts_with("{\"error\":"));
  EXPECT_EQ(client.get("/", "Authorization: Bearer s3cre\r\n").status, 401);
  EXPECT_EQ(client.get("/", "Authorization: Bearer s3cretx\r\n").status, 401);
  EXPECT_EQ(client.get("/?token=other").status, 401);
  EXPECT_EQ(client.get("/", "Authorization: bearer s3cret\r\n").status, 200);
  EXPECT_EQ(client.get("/?token=s3cret").status, 200);
  EXPECT_EQ(client.post("/api/echo", "{}", kJson).status, 401);
}

TEST(AdminPlane, AHandlerThatBlocksDoesNotHoldUpMetrics) {
  AdminPlane plane("127.0.0.1", 0, "");
  add_routes(plane);
  std::atomic<bool> release{false};
  plane.handle("POST", "/slow", [&](const AdminRequest&) {
    while (!release) std::this_thread::yield();
    return AdminReply{};
  });
  plane.start();
  std::vector<std::unique_ptr<TestClient>> slow;
  for (int i = 0; i < 20; ++i) {
    slow.push_back(std::make_unique<TestClient>(plane.port()));
    slow.back()->send("POST /slow HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n");
  }
  TestClient quick(plane.port());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(quick.get("/metrics").status, 200);
  release = true;
  for (const auto& client : slow) EXPECT_EQ(client->receive().status, 200);
}

TEST(AdminPlane, IdleAndSlowConnectionsKeepNobodyOut) {
  AdminPlane plane("127.0.0.1", 0, "");
  add_routes(plane);
  plane.start();
  std::vector<std::unique_ptr<TestClient>> waiting;
  for (int i = 0; i < 300; ++i) {
    waiting.push_back(std::make_unique<TestClient>(plane.port()));
    if (i % 2) waiting.back()->send("GET /metr");
    if (i % 20 == 0) {
      EXPECT_EQ(TestClient(plane.port()).get("/metrics").status, 200) << i;
    }
  }
  EXPECT_EQ(TestClient(plane.port()).get("/metrics").status, 200);
  waiting.back()->send("ics HTTP/1.1\r\n\r\n");
  EXPECT_EQ(waiting.back()->receive().status, 200) << "the latest is not the one that had to go";
}

}  // namespace
}  // namespace slipway
