#pragma once
#include <cstdint>
#include <string>

namespace slipway {

/// Progress of long work on standard error: a bar that rewrites itself on a terminal, a line now and then elsewhere.
/// step() also throws kInterrupted after Ctrl-C, so that every loop with progress can be stopped.
class Progress {
 public:
  Progress(std::string what, int64_t total, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void step(int64_t count = 1);
  void skip(int64_t count) { skipped_ += count; }           ///< done by an earlier run: no time was spent here
  void note(std::string text) { note_ = std::move(text); }  ///< shown behind the count from now on

 private:
  void draw(bool last);
  std::string what_, note_;
  int64_t total_, done_ = 0, skipped_ = 0, start_ns_, drawn_ns_ = 0;
  bool quiet_, terminal_, drawn_ = false;
};

/// No progress from here on (set once, by --quiet and --json on a pipe).
void silence_progress();

}  // namespace slipway
