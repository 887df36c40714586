// Trials of candidates in child processes. A generated kernel may fault on sizes that nobody tried, and a fault, or
// what a stray write did to the heap, can't be undone within a process; so no candidate is run in this one before it
// has run in a child. One child takes the trials in order and writes each result to a pipe; when it dies, the next
// trial is the one to blame, and another child goes on behind it.
//
// Forking a process of many threads leaves locks that another thread held at that moment locked for ever in the child.
// malloc's are handled by the C library; the child works in a fresh thread, because libgomp's pool of the forking
// thread does not survive a fork; of the rest a child might stand still. That is seen from its CPU time, and the trial
// is given to another child. The alternative, a fresh process of this program, would need every program that links the
// engine to know about it; a signal handler that jumps out of the kernel would leave a damaged heap behind and cover
// one thread.
#include "engine/tune/trial.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/parallel.h"
#include "engine/tune/timing.h"

namespace slipway {
namespace {

constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr int64_t kStandstillNs = 20'000'000'000;  ///< without any CPU time
constexpr int kMaxStandstills = 2;
constexpr size_t kMaxReasonBytes = 1000;

struct Record {
  uint64_t trial;
  double time_us;
  char rejected[kMaxReasonBytes];  ///< ends with 0
};

Record run_one(std::span<const CandidateTrial> trials, size_t i) {
  Record record{.trial = i, .time_us = 0, .rejected = {}};
  const auto reject = [&](const char* why) { std::strncpy(record.rejected, why, kMaxReasonBytes - 1); };
  try {
    record.time_us = time_candidate(trials[i].build, trials[i].step, trials[i].candidate);
  } catch (const std::exception& error) {
    reject(error.what());
  }
  return record;
}

[[noreturn]] void work(std::span<const CandidateTrial> trials, size_t first, int pipe) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::close_range(3, static_cast<unsigned>(pipe) - 1, 0);  // a server's connections close when the server closes them
  ::close_range(static_cast<unsigned>(pipe) + 1, ~0U, 0);
  const rlimit no_core = {0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  for (int fault : kFaults) std::signal(fault, SIG_DFL);
  std::signal(SIGINT, SIG_IGN);  // it ends the parent's wait, and with that this process
  std::thread([&] {
    set_thread_count(trials[first].step.threads);
    for (size_t i = first; i < trials.size(); ++i) {
      const Record record = run_one(trials, i);
      if (::write(pipe, &record, sizeof record) != static_cast<ssize_t>(sizeof record)) break;
    }
  }).join();
  std::_Exit(0);
}

class Child {
 public:
  Child(std::span<const CandidateTrial> trials, size_t first) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail(ErrorCode::kIo, "A pipe can't be made: {}", std::strerror(errno));
    pid_ = ::fork();
    if (pid_ == 0) work(trials, first, ends[1]);
    ::close(ends[1]);
    pipe_ = ends[0];
    if (pid_ < 0) {
      ::close(pipe_);
      fail(ErrorCode::kIo, "No process can be started to try implementations in; build without tuning: {}",
           std::strerror(errno));
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    end();
    ::close(pipe_);
  }

  /// The next record; none when the child has ended or stands still.
  std::optional<Record> next() {
    Record record;
    size_t have = 0;
    while (have < sizeof record) {
      if (!wait_for_bytes()) return std::nullopt;
      const ssize_t n = ::read(pipe_, reinterpret_cast<char*>(&record) + have, sizeof record - have);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return std::nullopt;
      have += static_cast<size_t>(n);
    }
    record.rejected[kMaxReasonBytes - 1] = 0;
    return record;
  }

  bool stood_still() const { return stood_still_; }

  /// Kills it if it still runs; the signal that it died of before that, 0 when there was none.
  int end() {
    if (pid_ <= 0) return 0;
    int status = 0;
    pid_t reaped = ::waitpid(pid_, &status, WNOHANG);
    if (reaped == 0) {
      // A child that faulted has closed its pipe and is about to die of it; only one that is told to must be killed.
      const bool running = stood_still_ || !closed_;
      if (running) ::kill(pid_, SIGKILL);
      while ((reaped = ::waitpid(pid_, &status, 0)) < 0 && errno == EINTR) continue;
      if (running) status = 0;
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

 private:
  int64_t cpu_ns() const {
    clockid_t clock;
    timespec time;
    if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
    return int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
  }

  bool wait_for_bytes() {
    int64_t worked = cpu_ns(), since = now_ns();
    for (;;) {
      pollfd poll{pipe_, POLLIN, 0};
      const int ready = ::poll(&poll, 1, 1000);
      if (ready > 0) {
        closed_ = (poll.revents & POLLIN) == 0;
        return !closed_;
      }
      const int64_t now = now_ns(), cpu = cpu_ns();
      if (cpu != worked) {
        worked = cpu;
        since = now;
      } else if (now - since > kStandstillNs) {
        stood_still_ = true;
        return false;
      }
    }
  }

  pid_t pid_ = -1;
  int pipe_ = -1;
  bool closed_ = false, stood_still_ = false;
};

// How a trial whose child gave no result ended.
TrialResult unfinished(int signal) {
  if (std::find(std::begin(kFaults), std::end(kFaults), signal) != std::end(kFaults))
    return {.rejected = crash_reason(signal), .crash_signal = signal};
  return {.rejected = signal == 0
                          ? "its first run gave no result"
                          : fmt::format("its first run was killed, perhaps for lack of memory (signal {})", signal)};
}

}  // namespace

std::string crash_reason(int signal) { return fmt::format("it crashes (signal {})", signal); }

std::vector<TrialResult> run_trials(std::span<const CandidateTrial> trials, const std::function<void()>& done) {
  std::vector<TrialResult> results;
  int standstills = 0;
  while (results.size() < trials.size()) {
    Child child(trials, results.size());
    while (results.size() < trials.size()) {
      const auto record = child.next();
      if (!record || record->trial != results.size() || !(record->time_us >= 0) || !std::isfinite(record->time_us)) {
        const int signal = child.end();
        if (child.stood_still() && ++standstills < kMaxStandstills) break;
        results.push_back(unfinished(signal));
        standstills = 0;
        done();
        break;
      }
      results.push_back({.time_us = record->time_us, .rejected = record->rejected});
      standstills = 0;
      done();
    }
  }
  return results;
}

}  // namespace slipway
