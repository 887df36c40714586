// Training happens in slipway-torch, so that libtorch's start-up time and memory are nobody else's. The job goes to its
// standard input, epochs, result or error come back as JSON lines; its standard error is ours, for the progress.
#include "quantize/qat/qat.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/child.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = size_t{64} << 20;
constexpr int kPollMs = 100;

std::string torch_program() {
  if (const char* given = std::getenv("SLIPWAY_TORCH"); given != nullptr && *given != '\0') return given;
  std::array<char, PATH_MAX> self{};
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
  return join_path(parent_folder(length > 0 ? self.data() : "."), "slipway-torch");
}

/// slipway-torch, with one end of a socket pair that is its standard input and output.
class Child {
 public:
  explicit Child(const std::string& program) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      fail(ErrorCode::kIo, "A pipe to slipway-torch can't be made; too many files are open.");
    // OpenMP's threads spin while they wait: by default so long that, where others work too, an epoch takes six times
    // as long as with this bound, which costs 6 % where nobody does (measured on two cores).
    std::vector<std::string> environment;
    if (std::getenv("GOMP_SPINCOUNT") == nullptr && std::getenv("OMP_WAIT_POLICY") == nullptr)
      environment.emplace_back("GOMP_SPINCOUNT=30000");
    socket_ = ends[0];
    try {
      pid_ = start_child({.program = program,
                          .arguments = {"slipway-torch", "qat"},
                          .environment = std::move(environment),
                          .input = ends[1],
                          .output = ends[1],
                          .death_signal = SIGTERM});
      ::close(ends[1]);
    } catch (...) {
      ::close(ends[0]);
      ::close(ends[1]);
      throw;
    }
  }
  ~Child() {
    ::close(socket_);
    if (pid_ > 0) {
      ::kill(pid_, SIGTERM);
      wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void send(const std::string& text) {
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t n = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;  // it has ended: read_line finds out how
      sent += static_cast<size_t>(n);
    }
    ::shutdown(socket_, SHUT_WR);
  }

  /// The next line without its end; nothing once the child has closed its side.
  std::optional<std::string> read_line() {
    while (true) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      // An interrupt does not reach the child, which has a process group of its own.
      if (interrupted() && !std::exchange(told_, true)) ::kill(pid_, SIGTERM);
      pollfd poll{socket_, POLLIN, 0};
      if (::poll(&poll, 1, kPollMs) <= 0) continue;
      std::array<char, 4096> bytes;
      const ssize_t n = ::recv(socket_, bytes.data(), bytes.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0 || buffer_.size() > kMaxLineBytes) return std::nullopt;
      buffer_.append(bytes.data(), static_cast<size_t>(n));
    }
  }

  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int socket_ = -1;
  bool told_ = false;
  std::string buffer_;
};

[[noreturn]] void rethrow(const json& error) {
  const int code = error.value("code", static_cast<int>(ErrorCode::kInternal));
  const bool known = code >= 0 && code < kErrorCodeCount;
  throw Error(known ? static_cast<ErrorCode>(code) : ErrorCode::kInternal, error.value("message", "no message"));
}

}  // namespace

bool has_qat() { return ::access(torch_program().c_str(), X_OK) == 0; }

QatResult run_qat(const QatFiles& files, const QatOptions& options,
                  const std::function<void(const QatEpoch&)>& on_epoch) {
  if (!has_qat())
    fail(
        ErrorCode::kUnsupported,
        "This build of Slipway can't train: slipway-torch is missing; build with -DSLIPWAY_TORCH=ON, or quantise after "
        "training (slipway quantize): {}",
        torch_program());
  require_writable(files.output);
  Child child(torch_program());
  const json job = {
      {"model", files.model}, {"data", files.data}, {"output", files.output}, {"options", to_json(options)}};
  child.send(job.dump(-1, ' ', false, json::error_handler_t::replace));
  std::optional<QatResult> result;
  while (const auto line = child.read_line()) {
    const json message = json::parse(*line, nullptr, false);
    if (!message.is_object()) continue;
    if (message.contains("error")) {
      child.wait();
      rethrow(message.at("error"));
    }
    if (message.contains("result")) result = qat_result_from_json(message.at("result"));
    if (message.contains("epoch") && on_epoch) on_epoch(qat_epoch_from_json(message.at("epoch")));
  }
  const int status = child.wait();
  throw_if_interrupted();
  if (!result || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail(ErrorCode::kInternal,
         "slipway-torch ended before its work was done ({}); run the same command to go on from its checkpoint: {}",
         ending_of(status), torch_program());
  return *std::move(result);
}

}  // namespace slipway
