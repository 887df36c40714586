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
  const auto done = static_cast<long long>(done_ + skipped_), total = static_cast<long long>(total_);
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1.0;
  const std::string note = note_.empty() ? "" : ", " + note_;
  const double left = done_ > 0 ? seconds / static_cast<double>(done_) * static_cast<double>(total - done) : 0;
  if (!terminal_) {
    std::fprintf(stderr, "%s: %lld of %lld, %.0f s, %.0f s left%s\n", what_.c_str(), done, total, seconds, left,
                 note.c_str());
    return;
  }
  std::string bar(30, ' ');
  for (int i = 0; i < 30 && i < share * 30; ++i) bar[static_cast<size_t>(i)] = '#';
  if (last)
    std::fprintf(stderr, "\r%-24s [%s] %lld/%lld in %.1f s%s\x1b[K\n", what_.c_str(), bar.c_str(), done, total, seconds,
                 note.c_str());
  else
    std::fprintf(stderr, "\r%-24s [%s] %lld/%lld, %.0f s left%s\x1b[K", what_.c_str(), bar.c_str(), done, total, left,
                 note.c_str());
  std::fflush(stderr);
}

}  // namespace slipway
