// Child processes that execute a program. After fork() in a process of many threads any lock may be held for ever, so
// everything that allocates is done before, and between fork and exec there are system calls alone.
#include "base/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace slipway {
namespace {

constexpr int kPollMs = 100;
constexpr int kClosedPollMs = 5;  ///< once it has closed its output, and is about to end

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> all;
  for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
  all.push_back(nullptr);
  return all;
}

std::vector<std::string> environment_of(const ChildProgram& program) {
  std::vector<std::string> all = program.environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (program.hidden.empty() || !std::string_view(*entry).starts_with(program.hidden + "=")) all.emplace_back(*entry);
  return all;
}

struct Fd {
  int value = -1;
  ~Fd() { close(); }
  void close() {
    if (value >= 0) ::close(std::exchange(value, -1));
  }
};

/// A child that is reaped once, its group killed before that.
class Running {
 public:
  explicit Running(pid_t pid) : pid_(pid) {}
  ~Running() {
    if (pid_ > 0) end();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  bool has_ended() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
  }
  /// How it ended, by itself or by this.
  int end() {
    int status = 0;
    ::kill(-pid_, SIGKILL);  // as long as it is not reaped, no other process has its number
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

}  // namespace

pid_t start_child(const ChildProgram& program) {
  const std::vector<std::string> environment = environment_of(program);
  const std::vector<char*> argv = pointers(program.arguments), envp = pointers(environment);
  const Fd nothing{program.input >= 0 ? -1 : ::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int input = program.input >= 0 ? program.input : nothing.value;
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0)
    fail(ErrorCode::kIo, "A process can't be started ({}); too many run, or memory is short.", std::strerror(errno));
  if (pid > 0) {
    if (!program.detached) ::setpgid(pid, pid);  // here too: whoever is first, the group is there when this returns
    return pid;
  }
  if (program.detached) {
    ::setsid();
  } else {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, program.death_signal);
    if (::getppid() != parent) ::_exit(1);
  }
  ::dup2(input, 0);
  if (program.output >= 0) ::dup2(program.output, 1);
  if (program.errors >= 0) ::dup2(program.errors, 2);
  ::close_range(3, ~0U, 0);
  ::execve(program.program.c_str(), argv.data(), envp.data());
  ::_exit(127);
}

std::string ending_of(int status) {
  if (!WIFSIGNALED(status)) return fmt::format("status {}", WEXITSTATUS(status));
  return fmt::format("signal {}{}", WTERMSIG(status),
                     WTERMSIG(status) == SIGKILL ? ", perhaps for lack of memory" : "");
}

std::string run_child(ChildProgram program, std::string_view input, const ChildLimits& limits, std::string_view what) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
    fail(ErrorCode::kIo, "A socket pair can't be made ({}); too many files are open.", std::strerror(errno));
  const Fd ours{ends[0]};
  Fd theirs{ends[1]};
  ::fcntl(theirs.value, F_SETFL, 0);
  program.input = program.output = theirs.value;
  Running child(start_child(program));
  theirs.close();
  const int64_t end = now_ns() + static_cast<int64_t>(limits.seconds * 1e9);
  std::string output;
  const auto read_some = [&] {
    char bytes[65536];
    const ssize_t n = ::recv(ours.value, bytes, sizeof bytes, 0);
    if (n > 0) output.append(bytes, static_cast<size_t>(n));
    if (output.size() > limits.max_output_bytes) fail(ErrorCode::kUnsupported, "{} said too much", what);
    return n;
  };
  bool open = true;
  for (bool told = false; !child.has_ended();) {
    if (limits.keep_going && !limits.keep_going()) fail(ErrorCode::kInterrupted, "{} was stopped", what);
    if (now_ns() > end) fail(ErrorCode::kDeadline, "{} was not done within {:g} s", what, limits.seconds);
    if (!told && input.empty()) told = ::shutdown(ours.value, SHUT_WR) == 0 || errno != EINTR;
    pollfd poll{open ? ours.value : -1, static_cast<short>(POLLIN | (input.empty() ? 0 : POLLOUT)), 0};
    if (::poll(&poll, 1, open ? kPollMs : kClosedPollMs) <= 0) continue;
    if ((poll.revents & POLLOUT) != 0) {
      const ssize_t n = ::send(ours.value, input.data(), input.size(), MSG_NOSIGNAL);
      if (n > 0) input.remove_prefix(static_cast<size_t>(n));
      if (n < 0 && errno != EAGAIN && errno != EINTR) input = {};  // it reads no more: how it ends says why
    }
    if ((poll.revents & (POLLIN | POLLHUP | POLLERR)) != 0) open = read_some() != 0;
  }
  while (read_some() > 0) continue;
  const int status = child.end();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail(ErrorCode::kUnsupported, "{} died: {}", what, ending_of(status));
  return output;
}

}  // namespace slipway
