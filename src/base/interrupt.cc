#include "base/interrupt.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include "base/error.h"

namespace slipway {
namespace {
// `timeout` and supervisors signal the process and its group: two signals at once are one wish.
constexpr int64_t kOneWishNs = 300'000'000;
std::atomic<int64_t> g_first_ns{0};
std::atomic<bool> g_hangup{false};
static_assert(std::atomic<int64_t>::is_always_lock_free);

void on_signal(int) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t now_ns = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  int64_t first_ns = 0;
  if (!g_first_ns.compare_exchange_strong(first_ns, now_ns) && now_ns - first_ns > kOneWishNs) std::_Exit(130);
}
}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return g_first_ns != 0; }

void catch_hangups() {
  struct sigaction action {};
  action.sa_handler = [](int) { g_hangup = true; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGHUP, &action, nullptr);
}

bool hangup_came() { return g_hangup.exchange(false); }

void throw_if_interrupted() {
  if (interrupted()) fail(ErrorCode::kInterrupted, "Interrupted; nothing was left half-written.");
}

}  // namespace slipway
