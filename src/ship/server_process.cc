// Starting, finding and stopping servers. A server says where it listens in one line of JSON on its standard output,
// which is a file here: nothing breaks when nobody reads on.
#include "ship/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = 64 << 10, kLogTail = 800;
constexpr auto kPause = std::chrono::milliseconds(20);

enum class Lifetime { kOurs, kDetached };

int open_unnamed() {
  const char* folder = std::getenv("TMPDIR");
  std::string path = join_path(folder != nullptr ? folder : "/tmp", "slipway-serve-XXXXXX");
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) fail(ErrorCode::kIo, "A temporary file can't be made; set TMPDIR to a folder with space: {}", path);
  ::unlink(path.c_str());
  return fd;
}

/// Closes at the end.
struct Fd {
  int value = -1;
  ~Fd() {
    if (value >= 0) ::close(value);
  }
};

/// Whether a server could listen there now, on loopback; what ended moments ago is in nobody's way.
bool is_free(uint16_t port) {
  const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int on = 1;
  sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  return fd.value < 0 || ::setsockopt(fd.value, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
         ::bind(fd.value, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

std::vector<std::string> arguments(const ServeCommand& c) {
  std::vector<std::string> a{"slipway", "serve", c.repository, "--json"};
  for (const auto& [option, port] :
       {std::pair("--http-port", c.http_port), {"--grpc-port", c.grpc_port}, {"--admin-port", c.admin_port}}) {
    a.emplace_back(option);
    a.push_back(std::to_string(port));
  }
  a.insert(a.end(), c.more.begin(), c.more.end());
  return a;
}

pid_t spawn(const ServeCommand& command, Lifetime lifetime, int out) {
  const Fd log{::open(command.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
  if (log.value < 0)
    fail(ErrorCode::kIo, "The server's log can't be written ({}): {}", std::strerror(errno), command.log_path);
  const bool detached = lifetime == Lifetime::kDetached;
  return start_child({.program = command.program,
                      .arguments = arguments(command),
                      .hidden = detached ? "" : "SLIPWAY_ADMIN_TOKEN",
                      .output = out,
                      .errors = log.value,
                      .detached = detached,
                      .death_signal = SIGTERM});
}

std::optional<RunningServer> parse_server(const std::string& text) {
  const json j = json::parse(text, nullptr, false);
  if (!j.is_object()) return std::nullopt;
  const auto number = [&](const char* key, int64_t highest) -> int64_t {
    const auto found = j.find(key);
    if (found == j.end() || !found->is_number_integer()) return 0;
    const auto value = found->get<int64_t>();
    return value > 0 && value <= highest ? value : 0;
  };
  RunningServer server{.pid = static_cast<pid_t>(number("pid", 1 << 30)),
                       .http_port = static_cast<uint16_t>(number("http_port", 65535)),
                       .grpc_port = static_cast<uint16_t>(number("grpc_port", 65535)),
                       .admin_port = static_cast<uint16_t>(number("admin_port", 65535))};
  server.tls = j.value("tls", json(false)) == true;
  if (server.pid == 0 || server.http_port == 0 || server.admin_port == 0) return std::nullopt;
  for (const auto& [key, at] : {std::pair("host", &server.host), std::pair("admin_host", &server.admin_host)})
    if (const auto host = j.find(key); host != j.end() && host->is_string() && *host != "0.0.0.0" && *host != "::")
      *at = host->get<std::string>();
  return server;
}

/// The whole lines of the file so far, the first that speaks of a server.
std::optional<RunningServer> read_server(int fd) {
  std::string text(kMaxLineBytes, '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    if (auto server = parse_server(text.substr(at, end - at))) return server;
  return std::nullopt;
}

std::string log_tail(const std::string& path) {
  try {
    std::string text = read_text_file(path);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.size() > kLogTail ? "…" + text.substr(text.size() - kLogTail) : text;
  } catch (const Error&) {
    return "";
  }
}

bool gone(pid_t pid) {
  int status = 0;
  const pid_t waited = ::waitpid(pid, &status, WNOHANG);
  return waited == pid || (waited < 0 && ::kill(pid, 0) != 0 && errno == ESRCH);
}

RunningServer start(const ServeCommand& command, Lifetime lifetime) {
  const Fd out{open_unnamed()};
  const pid_t pid = spawn(command, lifetime, out.value);
  try {
    const int64_t end = now_ns() + static_cast<int64_t>(command.timeout_seconds * 1e9);
    while (true) {
      if (auto server = read_server(out.value)) {
        server->pid = pid;
        return *server;
      }
      if (gone(pid))
        fail(ErrorCode::kIo, "The server ended before it was up; its log says: {}", log_tail(command.log_path));
      if (now_ns() > end)
        fail(ErrorCode::kDeadline, "The server was not up within {:g} s; see its log: {}", command.timeout_seconds,
             command.log_path);
      throw_if_interrupted();
      std::this_thread::sleep_for(kPause);
    }
  } catch (...) {
    stop_server(pid);
    throw;
  }
}

std::string url(bool tls, const std::string& host, uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

}  // namespace

std::string RunningServer::http_url() const { return url(tls, host, http_port); }
std::string RunningServer::admin_url() const { return url(tls, admin_host, admin_port); }

ServerChild::ServerChild(const ServeCommand& command) : server_(start(command, Lifetime::kOurs)) {}
ServerChild::~ServerChild() { stop_server(server_.pid); }

RunningServer start_detached(const ServeCommand& command) { return start(command, Lifetime::kDetached); }

bool stop_server(pid_t pid, double timeout_seconds) {
  if (gone(pid) || ::kill(pid, SIGTERM) != 0) return false;
  const int64_t end = now_ns() + static_cast<int64_t>(timeout_seconds * 1e9);
  while (now_ns() < end) {
    if (gone(pid)) return true;
    std::this_thread::sleep_for(kPause);
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return true;
}

void require_free_ports(const ServeCommand& c) {
  for (const auto& [option, port] :
       {std::pair("--http-port", c.http_port), {"--grpc-port", c.grpc_port}, {"--admin-port", c.admin_port}})
    if (port != 0 && !is_free(port))
      fail(ErrorCode::kInvalidArgument,
           "The port of the server that this would start is in use; choose another one, or 0 for any that is free: {} "
           "{}",
           option, port);
}

std::optional<RunningServer> find_server(const std::string& repository) {
  const std::string path = join_path(join_path(repository, ".slipway"), "server.json");
  if (!file_exists(path)) return std::nullopt;
  const auto server = parse_server(read_text_file(path, kMaxLineBytes));
  return server && ::kill(server->pid, 0) == 0 ? server : std::nullopt;
}

}  // namespace slipway
