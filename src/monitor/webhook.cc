// A bounded queue and a thread that empties it into an HTTP address, with retries (at-least-once while the queue
// holds).
#include "monitor/webhook.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "serve/admin/admin_client.h"

namespace slipway {

struct Webhook::Impl {
  WebhookOptions options;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::string> queue;
  bool stopping = false;
  std::atomic<int64_t> delivered{0}, dropped{0};
  std::thread thread;

  /// One try; what went wrong, or nothing.
  std::string send(const std::string& json) {
    try {
      const AdminReply reply = admin_call(options.url, "POST", "", json, "", options.timeout_ms);
      return reply.status >= 200 && reply.status < 300 ? "" : fmt::format("it answered with status {}", reply.status);
    } catch (const Error& error) {
      return error.what();
    }
  }

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      wake.wait(lock, [&] { return stopping || !queue.empty(); });
      if (stopping) return;
      const std::string json = std::move(queue.front());
      queue.pop_front();
      std::string fault;
      int64_t pause_ms = options.retry_ms;
      for (int attempt = 0; attempt < options.tries; ++attempt, pause_ms *= 2) {
        if (attempt > 0 && wake.wait_for(lock, std::chrono::milliseconds(pause_ms), [&] { return stopping; })) return;
        lock.unlock();
        try {
          fault = send(json);
        } catch (const std::bad_alloc&) {
          fault = "no memory";
        }
        lock.lock();
        if (fault.empty()) break;
      }
      if (fault.empty()) {
        ++delivered;
      } else {
        ++dropped;
        log_warning("The alarms' webhook did not take a message after {} tries; check its address: {} ({})",
                    options.tries, options.url, fault);
      }
    }
  }
};

Webhook::Webhook(WebhookOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  impl_->thread = std::thread([this] { impl_->run(); });
}

Webhook::~Webhook() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  impl_->thread.join();
}

void Webhook::post(std::string json) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->queue.size() >= impl_->options.max_queue) impl_->queue.pop_front(), ++impl_->dropped;
    impl_->queue.push_back(std::move(json));
  }
  impl_->wake.notify_all();
}

int64_t Webhook::delivered() const { return impl_->delivered; }
int64_t Webhook::dropped() const { return impl_->dropped; }

}  // namespace slipway
