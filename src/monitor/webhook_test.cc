#include "monitor/webhook.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "serve/http/scripted_server.h"

namespace slipway {
namespace {

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const std::string kBusy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

void wait_for(const Webhook& hook, int64_t done) {
  while (hook.delivered() + hook.dropped() < done) std::this_thread::yield();
}

TEST(Webhook, RetriesUntilItIsTaken) {
  ScriptedServer server({kBusy, "garbage\r\n\r\n", kOk, kOk});
  Webhook hook({.url = server.url + "/hook?x=1", .retry_ms = 1});
  hook.post("[1]");
  hook.post("[2]");
  wait_for(hook, 2);
  server.join();
  EXPECT_EQ(hook.delivered(), 2);
  EXPECT_TRUE(server.seen.at(0).starts_with("POST /hook?x=1 HTTP/1.1\r\n")) << server.seen[0];
  for (const size_t i : {0, 1, 2}) EXPECT_TRUE(server.seen.at(i).ends_with("\r\n\r\n[1]")) << server.seen[i];
  EXPECT_TRUE(server.seen.at(3).ends_with("\r\n\r\n[2]"));
}

TEST(Webhook, GivesUpAfterAllTries) {
  ScriptedServer server({kBusy, kBusy, kOk});
  Webhook hook({.url = server.url, .retry_ms = 1, .tries = 2});
  hook.post("[1]");
  hook.post("[2]");
  wait_for(hook, 2);
  EXPECT_EQ(hook.dropped(), 1);
  EXPECT_EQ(hook.delivered(), 1);
}

TEST(Webhook, AFullQueueDropsTheOldestAndNobodyWaits) {
  ScriptedServer silent({});
  Webhook hook({.url = silent.url, .timeout_ms = 20, .retry_ms = 1, .tries = 1, .max_queue = 2});
  for (int i = 0; i < 50; ++i) hook.post("[]");
  wait_for(hook, 50);
  EXPECT_EQ(hook.delivered(), 0);
  EXPECT_EQ(hook.dropped(), 50);
}

}  // namespace
}  // namespace slipway
