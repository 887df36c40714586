// Children do the work, so that nothing a graph does can end the run. A child writes a line for each seed it has done;
// before each way it notes in a page shared with its parent where it is, so that a crash names seed and way.
#include "isolated.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "random_graph.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr uint64_t kSeedsEach = 50;

/// Where a child is, for its parent to read when it dies.
struct Progress {
  uint64_t seed;
  char way[48];
};

Progress* shared_progress() {
  void* page = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  SLIPWAY_CHECK(page != MAP_FAILED);
  return static_cast<Progress*>(page);
}

void note(Progress* progress, std::string_view way) {
  std::memset(progress->way, 0, sizeof progress->way);
  way.copy(progress->way, sizeof progress->way - 1);
}

void bound_this_process() {
#if !defined(__SANITIZE_ADDRESS__)
  const rlimit memory{uint64_t{6} << 30, uint64_t{6} << 30};
  ::setrlimit(RLIMIT_AS, &memory);
#endif
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
}

volatile std::sig_atomic_t seconds_left = 0;

void count_second(int) {
  seconds_left = seconds_left - 1;
  if (seconds_left > 0) return;
  ::signal(SIGALRM, SIG_DFL);
  ::raise(SIGALRM);
}

/// Ends this process by SIGALRM after so many seconds. Those in which it is stopped count as one.
void end_after(int seconds) {
  seconds_left = seconds;
  catch_signal(SIGALRM, count_second, SA_RESTART);
  const itimerval tick{{1, 0}, {1, 0}};
  ::setitimer(ITIMER_REAL, &tick, nullptr);
}

void write_all(int fd, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
    if (n <= 0) ::_exit(3);
    at += static_cast<size_t>(n);
  }
}

json to_json(const std::vector<Finding>& findings) {
  json list = json::array();
  for (const Finding& f : findings) list.push_back({f.way, f.kind, f.message});
  return list;
}

std::vector<Finding> findings_of(const json& list) {
  std::vector<Finding> findings;
  for (const json& f : list) findings.push_back({f.at(0), f.at(1), f.at(2)});
  return findings;
}

std::string line(const json& value) { return value.dump(-1, ' ', true, json::error_handler_t::replace) + "\n"; }

/// How a child ended that wrote no line; empty when it ended well.
Finding ending(int status, const Progress& progress) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return {progress.way, "hang", "no end within its time"};
  if (WIFSIGNALED(status)) return {progress.way, "crash", fmt::format("signal {}", WTERMSIG(status))};
  return {progress.way, "crash", fmt::format("exit status {}", WEXITSTATUS(status))};
}

void check_range(uint64_t first, uint64_t end, int seconds, CheckOptions options, Progress* progress, int fd) {
  bound_this_process();
  options.starting = [&](std::string_view way) { note(progress, way); };
  for (uint64_t seed = first; seed < end; ++seed) {
    progress->seed = seed;
    note(progress, "writing");
    end_after(seconds);
    std::vector<Finding> findings;
    std::set<std::string> operators;
    options.seed = seed;
    try {
      const RandomGraph random = random_graph(seed);
      for (const NodeId id : random.graph.topological_order()) operators.insert(random.graph.node(id).op_type);
      note(progress, "reference");
      findings = check(random.graph, random.inputs, options);
    } catch (const Error& error) {
      findings.push_back({progress->way, "refused", error.what()});
    }
    write_all(fd, line({seed, to_json(findings), operators}));
  }
  ::_exit(0);
}

struct Child {
  pid_t pid = -1;
  int fd = -1;
  uint64_t next = 0, end = 0;  ///< seeds not yet done
  Progress* progress = nullptr;
  std::string unread;
};

}  // namespace

void check_seeds(const SeedRange& range, const CheckOptions& options,
                 const std::function<void(const SeedResult&)>& done) {
  std::vector<Child> children(static_cast<size_t>(range.jobs));
  for (Child& child : children) child.progress = shared_progress();
  uint64_t next = range.first;
  const uint64_t end = range.first + range.count;
  const int64_t start_ns = now_ns();
  const auto start = [&](Child& child) {
    int ends[2];
    SLIPWAY_CHECK(::pipe(ends) == 0);
    child.pid = ::fork();
    SLIPWAY_CHECK(child.pid >= 0);
    if (child.pid == 0) {
      ::close(ends[0]);
      check_range(child.next, child.end, range.seconds_each, options, child.progress, ends[1]);
    }
    ::close(ends[1]);
    child.fd = ends[0];
    child.unread.clear();
  };
  const auto start_next = [&](Child& child) {
    if (child.next >= child.end) {
      const bool late = range.seconds > 0 && now_ns() - start_ns > range.seconds * 1'000'000'000;
      if (next >= end || late) return;
      child.next = next;
      child.end = next = std::min(end, next + kSeedsEach);
    }
    start(child);
  };
  for (Child& child : children) start_next(child);
  for (;;) {
    std::vector<pollfd> waiting;
    for (const Child& child : children)
      if (child.fd >= 0) waiting.push_back({child.fd, POLLIN, 0});
    if (waiting.empty()) return;
    ::poll(waiting.data(), waiting.size(), -1);
    for (Child& child : children) {
      const auto it = std::find_if(waiting.begin(), waiting.end(), [&](const pollfd& p) { return p.fd == child.fd; });
      if (child.fd < 0 || it == waiting.end() || it->revents == 0) continue;
      char buffer[1 << 16];
      const ssize_t n = ::read(child.fd, buffer, sizeof buffer);
      if (n > 0) {
        child.unread.append(buffer, static_cast<size_t>(n));
        for (size_t at; (at = child.unread.find('\n')) != std::string::npos; child.unread.erase(0, at + 1)) {
          const json result = json::parse(child.unread.substr(0, at));
          child.next = result.at(0).get<uint64_t>() + 1;
          done({result.at(0), findings_of(result.at(1)), result.at(2)});
        }
        continue;
      }
      ::close(child.fd);
      child.fd = -1;
      int status = 0;
      ::waitpid(child.pid, &status, 0);
      if (child.next < child.end) {
        done({child.next, {ending(status, *child.progress)}, {}});
        ++child.next;
      }
      start_next(child);
    }
  }
}

std::vector<Finding> check_isolated(const Graph& graph, const std::vector<Tensor>& inputs, const CheckOptions& options,
                                    int seconds) {
  static Progress* const progress = shared_progress();
  int ends[2];
  SLIPWAY_CHECK(::pipe(ends) == 0);
  note(progress, "reference");
  const pid_t pid = ::fork();
  SLIPWAY_CHECK(pid >= 0);
  if (pid == 0) {
    ::close(ends[0]);
    bound_this_process();
    end_after(seconds);
    CheckOptions watched = options;
    watched.starting = [&](std::string_view way) { note(progress, way); };
    std::vector<Finding> findings;
    try {
      findings = check(graph, inputs, watched);
    } catch (const Error& error) {
      findings.push_back({"reference", "refused", error.what()});
    }
    write_all(ends[1], line(to_json(findings)));
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[1 << 12];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!text.empty() && text.back() == '\n') return findings_of(json::parse(text));
  return {ending(status, *progress)};
}

}  // namespace slipway
