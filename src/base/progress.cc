#include "base/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "base/clock.h"
#include "base/interrupt.h"

namespace slipway {
namespace {
bool g_silent = false;
constexpr int64_t kSecond = 1'000'000'000;
}  // namespace

void silence_progress() { g_silent = true; }

Progress::Progress(std::string what, int64_t total, bool quiet)
    : what_(std::move(what)),
      total_(total),
      start_ns_(now_ns()),
      quiet_(quiet || g_silent),
      terminal_(isatty(2) == 1) {}

Progress::~Progress() {
  if (drawn_) draw(true);
}

void Progress::step(int64_t count) {
  throw_if_interrupted();
  done_ += count;
  const int64_t now = now_ns();
  const int64_t pause = terminal_ ? kSecond / 10 : 5 * kSecond;
  if (quiet_ || now - start_ns_ < (terminal_ ? kSecond / 2 : 5 * kSecond) || now - drawn_ns_ < pause) return;
  drawn_ns_ = now;
  draw(false);
}

void Progress::draw(bool last) {
  drawn_ = true;
  const double seconds = static_cast<double>(now_ns() - start_ns_) * 1e-9;
  const double share = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1.0;
  if (!terminal_) {
    std::fprintf(stderr, "%s: %lld of %lld, %.0f s\n", what_.c_str(), static_cast<long long>(done_),
                 static_cast<long long>(total_), seconds);
    return;
  }
  std::string bar(30, ' ');
  for (int i = 0; i < 30 && i < share * 30; ++i) bar[static_cast<size_t>(i)] = '#';
  const double left = share > 0 ? seconds / share - seconds : 0;
  if (last)
    std::fprintf(stderr, "\r%-24s [%s] %lld/%lld in %.1f s      \n", what_.c_str(), bar.c_str(),
                 static_cast<long long>(done_), static_cast<long long>(total_), seconds);
  else
    std::fprintf(stderr, "\r%-24s [%s] %lld/%lld, %.0f s left  ", what_.c_str(), bar.c_str(),
                 static_cast<long long>(done_), static_cast<long long>(total_), left);
  std::fflush(stderr);
}

}  // namespace slipway
