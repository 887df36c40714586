#include "serve/http/http_listener.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "serve/http/compression.h"
#include "serve/http/http_testing.h"

namespace slipway {
namespace {

std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Answers with method, target and body.
void echo(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& r = exchange->request();
  exchange->respond(
      {.content_type = "text/plain", .body = std::string(r.method) + " " + std::string(r.target) + " " + text(r.body)});
}

struct EchoServer {
  explicit EchoServer(ListenOptions options = {}) : listener(std::move(options), echo) { listener.start(); }
  HttpListener listener;
  uint16_t port() const { return listener.port(); }
};

/// Keeps exchanges for a test to answer when it likes.
struct HeldServer {
  explicit HeldServer(ListenOptions options = {})
      : listener(std::move(options), [this](std::shared_ptr<HttpExchange> exchange) {
          const std::lock_guard lock(mutex);
          held.push_back(std::move(exchange));
          arrived.notify_all();
        }) {
    listener.start();
  }
  std::shared_ptr<HttpExchange> take() {
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return !held.empty(); });
    auto exchange = std::move(held.front());
    held.erase(held.begin());
    return exchange;
  }
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<std::shared_ptr<HttpExchange>> held;
  HttpListener listener;
};

TEST(HttpListener, KeepsConnectionsAliveAndSaysWhenItDoesNot) {
  EchoServer server;
  TestClient client(server.port());
  EXPECT_EQ(client.get("/a").body, "GET /a ");
  const TestResponse second = client.post("/b", "xyz");
  EXPECT_EQ(second.body, "POST /b xyz");
  EXPECT_FALSE(second.headers.contains("connection"));
  const TestResponse last = client.get("/c", "Connection: close\r\n");
  EXPECT_EQ(last.headers.at("connection"), "close");
  EXPECT_TRUE(client.ended());

  TestClient old(server.port());
  EXPECT_EQ(old.ask("GET /d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").headers.at("connection"), "keep-alive");
  EXPECT_EQ(old.ask("GET /e HTTP/1.0\r\n\r\n").headers.at("connection"), "close");
  EXPECT_TRUE(old.ended());
}

TEST(HttpListener, RequestsInAnyPortions) {
  EchoServer server;
  TestClient client(server.port());
  for (const char c : std::string("POST /split HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"))
    ASSERT_TRUE(client.send({&c, 1}));
  EXPECT_EQ(client.receive().body, "POST /split hello");
  for (const char c :
       std::string("POST /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
    ASSERT_TRUE(client.send({&c, 1}));
  EXPECT_EQ(client.receive().body, "POST /chunks abcde");
}

TEST(HttpListener, PipelinedRequestsAreAnsweredInOrder) {
  EchoServer server;
  TestClient client(server.port());
  std::string all;
  for (int i = 0; i < 3000; ++i)
    all += fmt::format("POST /{} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{:03}", i, i % 1000);
  std::thread sender([&] { client.send(all); });
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(client.receive().body, fmt::format("POST /{} {:03}", i, i % 1000));
  sender.join();
}

TEST(HttpListener, PipelinedRequestsWaitForTheAnswerUnderWay) {
  HeldServer server;
  TestClient client(server.listener.port());
  client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n");
  for (int i = 1; i <= 3; ++i) {
    auto exchange = server.take();
    EXPECT_EQ(exchange->request().target, fmt::format("/{}", i));
    std::thread([&] { exchange->respond({.body = fmt::format("{}", i)}); }).join();
    EXPECT_EQ(client.receive().body, fmt::format("{}", i));
  }
}

TEST(HttpListener, LargeBodiesBothWays) {
  EchoServer server;
  std::string body(9'000'001, 'x');
  for (size_t i = 0; i < body.size(); i += 4093) body[i] = static_cast<char>('a' + i % 26);
  TestClient client(server.port(), 4096);
  std::thread sender(
      [&] { client.send("POST / HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body); });
  EXPECT_TRUE(client.receive().body == "POST / " + body);
  sender.join();
  std::string chunked;
  for (size_t at = 0; at < body.size(); at += 70'000)
    chunked += fmt::format("{:x}\r\n{}\r\n", std::min<size_t>(70'000, body.size() - at), body.substr(at, 70'000));
  std::thread again(
      [&] { client.send("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + "0\r\n\r\n"); });
  EXPECT_TRUE(client.receive().body == "PUT / " + body);
  again.join();
}

TEST(HttpListener, TailsAreSentFromWhereTheyLieByAnotherThread) {
  HeldServer server;
  TestClient client(server.listener.port(), 4096);
  for (int round = 0; round < 3; ++round) {
    client.send("GET / HTTP/1.1\r\n\r\n");
    auto exchange = server.take();
    auto tensor = std::make_shared<std::vector<std::byte>>(3'000'000, std::byte{7});
    const std::vector<std::span<const std::byte>> tail(100, std::span(*tensor).first(30'000));
    std::weak_ptr<const void> alive = tensor;
    std::thread([&, owner = std::move(tensor)] {
      exchange->respond({.body = "json", .tail = tail, .owner = owner});
    }).join();
    EXPECT_EQ(client.receive().body, "json" + std::string(3'000'000, '\x07'));
    exchange.reset();
    TestClient other(server.listener.port());  // by then the first connection's thread is past its answer
    other.send("GET / HTTP/1.1\r\n\r\n");
    server.take()->respond({});
    EXPECT_EQ(other.receive().status, 200);
    EXPECT_TRUE(alive.expired());
  }
}

TEST(HttpListener, WhatIsNoRequestIsRefused) {
  EchoServer server({.limits = {.max_body_bytes = 1000, .max_header_bytes = 2000}});
  const auto status = [&](const std::string& bytes) {
    TestClient client(server.port());
    const TestResponse response = client.ask(bytes);
    EXPECT_TRUE(response.body.starts_with("{\"error\":\"")) << response.body;
    EXPECT_EQ(response.headers.at("connection"), "close");
    EXPECT_TRUE(client.ended());
    return response.status;
  };
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(status("\x16\x03\x01\x02garbage that is no HTTP\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/3.0\r\n\r\n"), 400);
  EXPECT_EQ(status("GET /\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Content-Length: 1001\r\n\r\n"), 413);
  EXPECT_EQ(status(post + "Content-Length: 99999999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Content-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400);
  EXPECT_EQ(status(post + "Transfer-Encoding: chunked\r\n\r\n400\r\n"), 413);
  EXPECT_EQ(status(post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400);
  EXPECT_EQ(status(post + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(8000, 'e')), 400);
  EXPECT_EQ(status(post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Transfer-Encoding: gzip, chunked\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Transfer-Encoding: identity\r\n\r\n"), 400);
  EXPECT_EQ(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nA:\r\n folded\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nA: b\r\n\t\r\n\r\n"), 400);
  EXPECT_EQ(status("POST / HTTP/1.1\r\nContent-Length:\r\n 0\r\n\r\n"), 400);
  EXPECT_EQ(status(post + "Expect: the-unexpected\r\nContent-Length: 1\r\n\r\n"), 417);
  EXPECT_EQ(status("GET /" + std::string(3000, 'a') + " HTTP/1.1\r\n\r\n"), 431);
}

TEST(HttpListener, HeadersThatNeverEndAreCutOff) {
  EchoServer server;
  TestClient client(server.port());
  client.send("GET / HTTP/1.1\r\n");
  std::thread sender([&] {
    for (int i = 0; i < 1'000'000 && client.send("X-More: of the same\r\n"); ++i) {
    }
  });
  EXPECT_EQ(client.receive().status, 431);
  EXPECT_TRUE(client.ended());
  sender.join();
  EXPECT_EQ(TestClient(server.port()).get("/").status, 200);
}

TEST(HttpListener, PackedBodies) {
  EchoServer server({.limits = {.max_body_bytes = 100'000}});
  TestClient client(server.port());
  const std::string body(50'000, 'y');
  const std::span<const std::byte> whole = std::as_bytes(std::span(body));
  for (const ContentCoding coding : {ContentCoding::kGzip, ContentCoding::kDeflate}) {
    const std::string header = fmt::format("Content-Encoding: {}\r\n", to_string(coding));
    const std::string packed = pack(coding, {&whole, 1});
    TestResponse response = client.post("/", packed, header);
    EXPECT_EQ(response.body, "POST / " + body);
    EXPECT_FALSE(response.headers.contains("content-encoding")) << "nobody asked";
    response = client.post("/", packed, header + "Accept-Encoding: " + to_string(coding) + "\r\n");
    ASSERT_EQ(response.headers.at("content-encoding"), to_string(coding));
    const auto unpacked = unpack(coding, std::as_bytes(std::span(response.body)), 1 << 20);
    EXPECT_EQ(text(unpacked->view()), "POST / " + body);
  }
  EXPECT_FALSE(client.post("/", "short", "Accept-Encoding: gzip\r\n").headers.contains("content-encoding"));
  const std::string zeros(3'000'000, '\0');
  const std::span<const std::byte> bomb = std::as_bytes(std::span(zeros));
  EXPECT_EQ(client.post("/", pack(ContentCoding::kGzip, {&bomb, 1}), "Content-Encoding: gzip\r\n").status, 413);
  EXPECT_EQ(TestClient(server.port()).post("/", "no gzip", "Content-Encoding: gzip\r\n").status, 400);
  EXPECT_EQ(TestClient(server.port()).post("/", "x", "Content-Encoding: br\r\n").status, 415);
}

TEST(HttpListener, SaysContinueBeforeABodyIsSent) {
  EchoServer server({.limits = {.max_body_bytes = 1000}});
  TestClient client(server.port());
  client.send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.receive().status, 100);
  EXPECT_EQ(client.ask("ab").body, "POST / ab");
  client.send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n");
  EXPECT_EQ(client.receive().status, 413);
}

TEST(HttpListener, HeadHasTheLengthAndNoBody) {
  EchoServer server;
  TestClient client(server.port());
  client.send("HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.receive(true).headers.at("content-length"), "8");
  EXPECT_EQ(client.receive().body, "GET /b ");
}

TEST(HttpListener, TooManyConnectionsHearSo) {
  EchoServer server({.max_connections = 2});
  TestClient first(server.port()), second(server.port());
  EXPECT_EQ(first.get("/").status, 200);
  EXPECT_EQ(second.get("/").status, 200);
  TestClient third(server.port());
  const TestResponse refused = third.get("/");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_TRUE(third.ended());
  third.close();
  first.close();
  while (server.listener.connections() > 1) std::this_thread::yield();
  EXPECT_EQ(TestClient(server.port()).get("/").status, 200);
}

TEST(HttpListener, IdleAndSlowConnectionsEnd) {
  EchoServer server({.idle_timeout_ms = 150, .read_timeout_ms = 150});
  TestClient never_asks(server.port()), asked(server.port()), slow(server.port()), slow_body(server.port());
  EXPECT_EQ(asked.get("/").status, 200);
  slow.send("GET / HTT");
  slow_body.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_TRUE(never_asks.ended());
  EXPECT_TRUE(asked.ended());
  EXPECT_EQ(slow.receive().status, 408);
  EXPECT_TRUE(slow.ended());
  EXPECT_EQ(slow_body.receive().status, 408);
}

TEST(HttpListener, AClientThatTakesNoResponseIsDropped) {
  HeldServer server({.read_timeout_ms = 150});
  TestClient client(server.listener.port(), 4096);
  client.send("GET / HTTP/1.1\r\n\r\n");
  auto exchange = server.take();
  auto owner = std::make_shared<std::string>(64 << 20, 'z');
  std::weak_ptr<const void> alive = owner;
  exchange->respond({.tail = {std::as_bytes(std::span(*owner))}, .owner = std::exchange(owner, nullptr)});
  exchange.reset();
  while (server.listener.connections() > 0) std::this_thread::yield();
  EXPECT_TRUE(alive.expired());
}

TEST(HttpListener, ClientsThatGoAwayLeaveNothingBehind) {
  HeldServer server({.threads = 2});
  for (int round = 0; round < 20; ++round) {
    TestClient half(server.listener.port());
    half.send("POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf of");
    if (round % 2) half.reset();
    TestClient whole(server.listener.port());
    whole.send("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nwhole");
    auto exchange = server.take();
    if (round % 4 == 0) whole.reset();
    if (round % 4 == 1) whole.close();
    std::thread([&] { exchange->respond({.body = std::string(100'000, 'r')}); }).join();
    if (round % 4 > 1) {
      EXPECT_EQ(whole.receive().status, 200);
    }
  }
  while (server.listener.connections() > 0) std::this_thread::yield();
}

TEST(HttpListener, AHalfClosedClientStillGetsItsAnswer) {
  HeldServer server;
  TestClient client(server.listener.port());
  client.send("GET / HTTP/1.1\r\n\r\n");
  client.end_of_input();
  auto exchange = server.take();
  exchange->respond({.body = "late"});
  EXPECT_EQ(client.receive().body, "late");
  EXPECT_TRUE(client.ended());
}

TEST(HttpListener, HandlersMayFail) {
  HttpListener listener({}, [](const std::shared_ptr<HttpExchange>& exchange) {
    if (exchange->request().target == "/bad") fail(ErrorCode::kInvalidArgument, "The input is bad: {}", "\xff\"");
    if (exchange->request().target == "/worse") throw std::runtime_error("broken");
    if (exchange->request().target == "/full") fail(ErrorCode::kOverloaded, "The queue is full");
    exchange->respond({});
  });
  listener.start();
  TestClient client(listener.port());
  const TestResponse bad = client.get("/bad");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.body, "{\"error\":\"The input is bad: \xEF\xBF\xBD\\\"\"}");
  EXPECT_EQ(client.get("/worse").status, 500);
  const TestResponse full = client.get("/full");
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.headers.at("retry-after"), "1");
  EXPECT_EQ(client.get("/fine").status, 200);
}

TEST(HttpListener, DrainingEndsIdleConnectionsAndAnswersTheRest) {
  HeldServer server;
  TestClient busy(server.listener.port()), idle(server.listener.port());
  idle.send("GET / HTTP/1.1\r\n\r\n");
  server.take()->respond({});
  EXPECT_EQ(idle.receive().status, 200);
  busy.send("GET / HTTP/1.1\r\n\r\n");
  auto exchange = server.take();
  server.listener.drain();
  EXPECT_TRUE(idle.ended());
  exchange->respond({.body = "done"});
  const TestResponse response = busy.receive();
  EXPECT_EQ(response.body, "done");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(busy.ended());
  EXPECT_FALSE(TestClient(server.listener.port()).connected());
}

TEST(HttpListener, DrainingEndsConnectionsThatWereAnsweredAtOnce) {
  EchoServer server;
  TestClient idle(server.port());
  EXPECT_EQ(idle.get("/").status, 200);
  server.listener.drain();
  EXPECT_TRUE(idle.ended());
}

TEST(HttpListener, StoppingWaitsForAnswersUnderWay) {
  HeldServer server;
  TestClient client(server.listener.port());
  client.send("GET / HTTP/1.1\r\n\r\n");
  auto exchange = server.take();
  std::atomic<bool> stopped{false};
  std::thread stopper([&] {
    server.listener.stop();
    stopped = true;
  });
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(stopped);
  exchange->respond({});
  stopper.join();
}

TEST(HttpListener, APortInUseIsNamed) {
  EchoServer server;
  try {
    HttpListener second({.port = server.port()}, echo);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_NE(std::string(error.what()).find(fmt::format("127.0.0.1:{}", server.port())), std::string::npos);
  }
  EXPECT_THROW(HttpListener({.host = "no address"}, echo), Error);
}

TEST(HttpListener, ManyConnectionsOnSomeThreads) {
  EchoServer server({.threads = 3});
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([&, c] {
      TestClient client(server.port());
      for (int i = 0; i < 300; ++i) {
        const std::string body(static_cast<size_t>(i * 97 % 40'000), static_cast<char>('a' + c));
        if (client.post("/x", body).body != "POST /x " + body) ++wrong;
      }
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace slipway
