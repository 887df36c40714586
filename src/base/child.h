#pragma once
#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// A program that is started beside this one. Its standard streams are descriptors of ours, and nothing else of ours is
/// open in it; it has a process group of its own, so that Ctrl-C is for the one who drives.
struct ChildProgram {
  std::string program = "/proc/self/exe";
  std::vector<std::string> arguments;        ///< the first is the name that it sees
  std::vector<std::string> environment;      ///< "NAME=VALUE", beside ours
  std::string hidden;                        ///< name of a variable of ours that it does not see
  int input = -1, output = -1, errors = -1;  ///< −1: nothing to read, our own standard output and error
  bool detached = false;                     ///< in a session of its own, and outlives us
  int death_signal = 9;                      ///< what it gets when the thread that started it ends, unless detached
};

/// Starts it; whoever calls reaps it (waitpid). Safe in a process of many threads: between fork and exec only system
/// calls are made. One that can't be executed exits with 127. Fails with kIo.
pid_t start_child(const ChildProgram& program);

/// "signal 11", "status 3": how waitpid says that a process ended.
std::string ending_of(int status);

struct ChildLimits {
  double seconds = 600;
  std::function<bool()> keep_going;  ///< asked ten times a second; false: it is killed. Empty: yes
  size_t max_output_bytes = size_t{64} << 20;
};

/// Runs a program to its end: `input` is its standard input, what it wrote to standard output comes back. The program,
/// and what it started in its group, is killed when it takes too long (kDeadline) or is not to go on (kInterrupted).
/// Fails with kUnsupported, naming how it ended, where that is not exit status 0, and as start_child() does. Messages
/// begin with `what`, a noun: "The process that …".
std::string run_child(ChildProgram program, std::string_view input, const ChildLimits& limits, std::string_view what);

}  // namespace slipway
