// Signals on a stack of their own: kernels that oneDNN compiles use the stack pointer as one more register, so that a
// handler's frame would overwrite whatever they compute with. The kernel gives a process's signals to its main thread
// as long as that takes them, and the stack is that thread's.
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

void catch_signal(int signal, void (*handler)(int), int flags) {
  alignas(64) static char stack[64 * 1024];  // a frame with all of AMX's tiles takes 11 KiB
  const stack_t own{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
  stack_t there{};
  if (sigaltstack(nullptr, &there) == 0 && (there.ss_flags & SS_DISABLE) != 0) sigaltstack(&own, nullptr);
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags | SA_ONSTACK;
  sigaction(signal, &action, nullptr);
}

void catch_interrupts() {
  catch_signal(SIGINT, on_signal);
  catch_signal(SIGTERM, on_signal);
}

bool interrupted() { return g_first_ns != 0; }

void catch_hangups() {
  catch_signal(
      SIGHUP, [](int) { g_hangup = true; }, SA_RESTART);
}

bool hangup_came() { return g_hangup.exchange(false); }

void throw_if_interrupted() {
  if (interrupted()) fail(ErrorCode::kInterrupted, "Interrupted; nothing was left half-written.");
}

}  // namespace slipway
