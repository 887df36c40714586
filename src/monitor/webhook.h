#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace slipway {

struct WebhookOptions {
  std::string url;  ///< http://host:port/path
  int64_t timeout_ms = 3000;
  int64_t retry_ms = 1000;  ///< before the second try, then doubled
  int tries = 4;
  size_t max_queue = 64;  ///< beyond, the oldest is dropped
};

/// Posts JSON documents to one address, in order, in a thread of its own: the caller never waits.
class Webhook {
 public:
  explicit Webhook(WebhookOptions options);
  /// What is under way ends, at most one timeout; the rest is dropped.
  ~Webhook();
  Webhook(const Webhook&) = delete;
  Webhook& operator=(const Webhook&) = delete;
  void post(std::string json);
  int64_t delivered() const;
  int64_t dropped() const;  ///< after all tries, or for want of room

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
