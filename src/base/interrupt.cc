#include "base/interrupt.h"

#include <csignal>
#include <cstdlib>

#include "base/error.h"

namespace slipway {
namespace {
volatile std::sig_atomic_t g_signals = 0;
void on_signal(int) {
  g_signals = g_signals + 1;
  if (g_signals > 1) std::_Exit(130);
}
}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return g_signals != 0; }

void throw_if_interrupted() {
  if (interrupted()) fail(ErrorCode::kInterrupted, "Interrupted; nothing was left half-written.");
}

}  // namespace slipway
