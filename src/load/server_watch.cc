// The server's CPU and memory while it is under load.
#include "load/server_watch.h"

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "serve/admin/admin_client.h"

namespace slipway {
namespace {

constexpr int64_t kWatchTimeoutMs = 5000;

/// The value of a metric without labels; 0 when it is absent.
double metric(std::string_view text, std::string_view name) {
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at > 0 && text[at - 1] != '\n') || end >= text.size() || text[end] != ' ') continue;
    double value = 0;
    std::from_chars(text.data() + end + 1, text.data() + text.size(), value);
    return value;
  }
  return 0;
}

}  // namespace

ServerFacts parse_server_facts(const std::string& metrics) {
  return {metric(metrics, "process_cpu_seconds_total"), metric(metrics, "process_resident_memory_bytes")};
}

struct ServerWatch::Impl {
  std::string url;
  TlsFiles tls;
  mutable std::mutex mutex;
  std::condition_variable wake;
  ServerFacts facts;
  bool closing = false;
  std::thread thread;

  ServerFacts ask() const {
    const AdminReply reply = admin_call(url, "GET", "/metrics", {}, {}, kWatchTimeoutMs, tls);
    ServerFacts asked = reply.status == 200 ? parse_server_facts(reply.body) : ServerFacts();
    asked.at_ns = now_ns();
    return asked;
  }

  void loop() {
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, std::chrono::seconds(1), [&] { return closing; })) {
      lock.unlock();
      ServerFacts asked;
      try {
        asked = ask();
      } catch (const Error&) {  // the load itself tells that the server is gone
      }
      lock.lock();
      facts = asked;
    }
  }
};

ServerWatch::ServerWatch(const std::string& admin_url, const TlsFiles& tls) : impl_(std::make_unique<Impl>()) {
  impl_->url = admin_url;
  impl_->tls = tls;
  impl_->facts = impl_->ask();
  if (impl_->facts.resident_bytes <= 0)
    fail(ErrorCode::kInvalidArgument,
         "GET /metrics there tells nothing of a process; give the server's admin port: '{}'", admin_url);
  impl_->thread = std::thread([this] { impl_->loop(); });
}

ServerWatch::~ServerWatch() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->closing = true;
  }
  impl_->wake.notify_one();
  if (impl_->thread.joinable()) impl_->thread.join();
}

ServerFacts ServerWatch::latest() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->facts;
}

}  // namespace slipway
