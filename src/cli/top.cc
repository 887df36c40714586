// slipway top: the dashboard in the terminal. The screen is the alternate one, so that leaving brings back what was
// there; the key press and the signals end it the same way.
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "cli/cli.h"
#include "monitor/terminal.h"
#include "serve/admin/admin_client.h"
#include "serve/tls.h"

namespace slipway {
namespace {

constexpr int64_t kPollTimeoutMs = 5000, kSecondNs = 1'000'000'000, kKeptPoints = 120;

struct TopFlags {
  std::string url = "http://127.0.0.1:8002", token;
  TlsFiles tls;
  bool once = false, json = false;
};

nlohmann::json fetch(const TopFlags& o, const std::string& target) {
  const AdminReply reply = admin_call(o.url, "GET", target, "", o.token, kPollTimeoutMs, o.tls);
  nlohmann::json body = nlohmann::json::parse(reply.body, nullptr, false);
  if (reply.status == 401 || reply.status == 403)
    fail(ErrorCode::kInvalidArgument, "The server wants its admin token; give --token or SLIPWAY_ADMIN_TOKEN: {}",
         o.url);
  if (reply.status != 200 || !body.is_object())
    fail(ErrorCode::kInvalidArgument,
         "This is not Slipway's admin address; it is printed by `slipway serve`: {} (status {})", o.url, reply.status);
  return body;
}

/// The terminal as it was, whatever happens.
class Screen {
 public:
  Screen() {
    saved_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (saved_) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    write("\x1b[?1049h\x1b[?25l");
  }
  ~Screen() {
    write("\x1b[?25h\x1b[?1049l");
    if (saved_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  void draw(const std::string& view) {
    std::string frame = "\x1b[H";
    for (const char c : view) {
      if (c == '\n')
        frame += "\x1b[K\r\n";
      else
        frame += c;
    }
    write(frame + "\x1b[J");
  }

 private:
  static void write(const std::string& bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
  bool saved_ = false;
};

TerminalOptions terminal_size() {
  winsize size{};
  TerminalOptions options;
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    options = {.columns = size.ws_col, .rows = size.ws_row > 1 ? size.ws_row - 1 : 0};
  return options;
}

/// True when the person wants to leave.
bool wait_for_key(int64_t until_ns) {
  while (!interrupted()) {
    const int64_t left_ms = (until_ns - now_ns()) / 1'000'000;
    if (left_ms <= 0) return false;
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&input, 1, static_cast<int>(left_ms)) <= 0) continue;
    char key = 0;
    if (::read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q' || key == 3 || key == 4) return true;
  }
  return true;
}

void live(const TopFlags& o) {
  nlohmann::json status = fetch(o, "/api/status"), series;
  Screen screen;
  while (true) {
    const int64_t next_ns = now_ns() + kSecondNs;
    TerminalOptions options = terminal_size();
    options.color = std::getenv("NO_COLOR") == nullptr;
    std::string lost;
    try {
      status = fetch(o, "/api/status");
      const auto now = status.find("now_ms");
      const int64_t now_ms = now != status.end() && now->is_number() ? now->get<int64_t>() : 0;
      series = fetch(o, fmt::format("/api/series?since={}", std::max<int64_t>(now_ms - kKeptPoints * 1000, 0)));
    } catch (const Error& error) {
      lost = fmt::format("connection lost: {}\n", error.what());
    }
    screen.draw(lost + terminal_view(status, series, o.url, options) + "\nq leaves");
    if (wait_for_key(next_ns)) return;
  }
}

void top(TopFlags o) {
  if (const char* token = std::getenv("SLIPWAY_ADMIN_TOKEN"); o.token.empty() && token != nullptr) o.token = token;
  if (!o.once && !o.json && ::isatty(STDOUT_FILENO) == 1 && ::isatty(STDIN_FILENO) == 1) {
    live(o);
    return;
  }
  nlohmann::json status = fetch(o, "/api/status");
  const nlohmann::json series = fetch(o, "/api/series");
  if (o.json) {
    print_json(status);
    return;
  }
  TerminalOptions options = terminal_size();
  options.rows = 0;
  if (::isatty(STDOUT_FILENO) != 1) options.columns = 120;
  fmt::print("{}", terminal_view(status, series, o.url, options));
}

}  // namespace

void add_top(Cli& cli) {
  auto o = std::make_shared<TopFlags>();
  CLI::App* verb = add_verb(cli, "top", "A running server, live in the terminal (the web dashboard's figures)",
                            "  slipway top http://127.0.0.1:8002", o->json);
  verb->add_option("url", o->url, "The server's admin address")->capture_default_str();
  verb->add_option("--token", o->token, "Admin token (else $SLIPWAY_ADMIN_TOKEN)");
  add_tls_client(*verb, o->tls);
  verb->add_flag("--once", o->once, "Print it once and leave; so does output that is no terminal");
  verb->callback([=] { top(*o); });
}

}  // namespace slipway
