// The dashboard for a terminal. Every line is clipped to the terminal's width, counted in characters; escape sequences
// are ours alone, text from the server is cleaned first.
#include "monitor/terminal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

namespace slipway {
namespace {

using nlohmann::json;

enum class Ink { kPlain, kBold, kSoft, kGood, kBad, kWarn, kBlue };
constexpr std::array<const char*, 7> kInks = {"", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[34m"};

const json& at(const json& j, const char* key) {
  static const json kNull;
  if (!j.is_object()) return kNull;
  const auto found = j.find(key);
  return found == j.end() ? kNull : *found;
}
const json& list(const json& j, const char* key) {
  static const json kNone = json::array();
  const json& value = at(j, key);
  return value.is_array() ? value : kNone;
}
double number(const json& j, const char* key) {
  const json& value = at(j, key);
  return value.is_number() ? value.get<double>() : NAN;
}
int64_t whole(const json& j, const char* key) {
  const double value = number(j, key);
  return std::isfinite(value) && std::abs(value) < 9e15 ? static_cast<int64_t>(value) : 0;
}

/// Without control characters, C1's included: a name can't move the cursor.
std::string clean(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c < 0x20 || c == 0x7f) text[i] = '?';
    if (c1) text[i] = text[i + 1] = '?';
  }
  return text;
}
std::string text(const json& j, const char* key) {
  const json& value = at(j, key);
  return value.is_string() ? clean(value.get<std::string>()) : "";
}

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }
size_t width_of(std::string_view s) { return static_cast<size_t>(std::count_if(s.begin(), s.end(), starts_character)); }

std::string clip(const std::string& s, size_t width) {
  size_t characters = 0;
  for (size_t i = 0; i < s.size(); ++i)
    if (starts_character(s[i]) && ++characters > width) return s.substr(0, i);
  return s;
}
std::string pad(const std::string& s, size_t width, bool right = false) {
  const std::string clipped = clip(s, width);
  const std::string blanks(width - width_of(clipped), ' ');
  return right ? blanks + clipped : clipped + blanks;
}

std::string rate(double v) {
  return !std::isfinite(v) ? "-" : v >= 100 || v == 0 ? fmt::format("{:.0f}", v) : fmt::format("{:.1f}", v);
}
std::string time_of(double v_ms) {
  if (!std::isfinite(v_ms)) return "-";
  return v_ms >= 1000 ? fmt::format("{:.2f} s", v_ms / 1000)
                      : fmt::format("{:.{}f} ms", v_ms,
                                    v_ms >= 100  ? 0
                                    : v_ms >= 10 ? 1
                                                 : 2);
}
std::string share_of(double v) {
  if (!std::isfinite(v)) return "-";
  return fmt::format("{:.{}f} %", v * 100, v == 0 || v >= 0.1 ? 0 : v >= 0.01 ? 1 : 2);
}
std::string mebibytes(double v) { return std::isfinite(v) ? fmt::format("{:.1f} MiB", v / (1 << 20)) : "-"; }
std::string span_of(double s) {
  if (!std::isfinite(s)) return "-";
  return s < 90     ? fmt::format("{:.0f} s", s)
         : s < 5400 ? fmt::format("{:.0f} min", s / 60)
                    : fmt::format("{:.1f} h", s / 3600);
}

std::vector<double> column(const json& series, const json& points, const char* name) {
  const json& names = list(series, "columns");
  const auto found = std::find(names.begin(), names.end(), json(name));
  std::vector<double> values;
  if (found == names.end()) return values;
  const auto index = static_cast<size_t>(found - names.begin());
  for (const json& point : points)
    values.push_back(point.is_array() && index < point.size() && point[index].is_number() ? point[index].get<double>()
                                                                                          : NAN);
  return values;
}

class Page {
 public:
  explicit Page(const TerminalOptions& options)
      : width_(static_cast<size_t>(std::max(options.columns, 20))), rows_(options.rows), color_(options.color) {}
  Page& put(const std::string& s, Ink ink = Ink::kPlain) {
    const std::string clipped = clip(s, width_ - std::min(width_, used_));
    used_ += width_of(clipped);
    const char* code = color_ ? kInks[static_cast<size_t>(ink)] : "";
    line_ += code + clipped + (*code != 0 && !clipped.empty() ? "\x1b[0m" : "");
    return *this;
  }
  void end() {
    if (rows_ == 0 || lines_++ < rows_) text_ += line_ + "\n";
    line_.clear();
    used_ = 0;
  }
  size_t left() const { return width_ - std::min(width_, used_); }
  std::string take() { return std::move(text_); }

 private:
  size_t width_, used_ = 0;
  int rows_, lines_ = 0;
  bool color_;
  std::string line_, text_;
};

Ink ink_of(const std::string& state) {
  const auto any = [&](std::initializer_list<const char*> words) {
    return std::any_of(words.begin(), words.end(), [&](const char* w) { return state.find(w) != std::string::npos; });
  };
  if (any({"fail", "abort", "rolled_back", "firing", "mismatch"})) return Ink::kBad;
  if (any({"pass", "promoted", "resolved", "live"})) return Ink::kGood;
  if (any({"paused", "held", "inconclusive", "pending", "missing", "candidate"})) return Ink::kWarn;
  return Ink::kBlue;
}

void figures(Page& page, const json& status, const json& series) {
  const json &total = at(status, "total"), &process = at(status, "process");
  const json& points = list(at(series, "total"), "points");
  const double requests = number(total, "requests_per_s");
  const double failed = number(total, "faults_per_s") + number(total, "timeouts_per_s");
  const double errors = requests > 0 ? failed / requests : 0;
  const auto line = [&](const char* label, const std::string& value, const std::string& note,
                        const std::vector<double>& past, Ink ink = Ink::kBold) {
    page.put(pad(label, 12), Ink::kSoft).put(pad(value, 12), ink).put(pad(note, 32), Ink::kSoft);
    if (page.left() > 4) page.put(sparkline(past, std::min<size_t>(page.left(), 60)), Ink::kBlue);
    page.end();
  };
  line("throughput", rate(requests) + " req/s",
       fmt::format("batch {}  queue {}", rate(number(total, "batch_rows")), rate(number(total, "queue_depth"))),
       column(series, points, "requests_per_s"));
  line("latency", time_of(number(total, "p50_ms")),
       fmt::format("p95 {}  p99 {}", time_of(number(total, "p95_ms")), time_of(number(total, "p99_ms"))),
       column(series, points, "p99_ms"));
  line("errors", share_of(errors),
       fmt::format("{} timeouts/s  {} rejected/s", rate(number(total, "timeouts_per_s")),
                   rate(number(total, "rejections_per_s"))),
       column(series, points, "faults_per_s"), errors > 0.01 ? Ink::kBad : Ink::kBold);
  const double confidence = number(total, "confidence");
  line("confidence", std::isfinite(confidence) ? fmt::format("{:.3f}", confidence) : "-",
       std::isfinite(confidence)
           ? fmt::format("entropy {:.2f}  margin {:.2f}", number(total, "entropy"), number(total, "margin"))
           : "no scores seen",
       column(series, points, "confidence"));
  std::vector<double> resident;
  for (const json& p : list(series, "process"))
    resident.push_back(p.is_array() && p.size() > 1 && p[1].is_number() ? p[1].get<double>() : NAN);
  const double used = number(process, "resident_bytes") / number(process, "memory_limit_bytes");
  line("memory", mebibytes(number(process, "resident_bytes")),
       fmt::format("{} of the limit  CPU {}", share_of(used), rate(number(process, "cpu_cores"))), resident,
       used > number(process, "memory_alarm_ratio") ? Ink::kBad : Ink::kBold);
}

void versions(Page& page, const json& status) {
  size_t name = 8;
  const auto label_of = [](const json& v) { return fmt::format("{} v{}", text(v, "model"), whole(v, "version")); };
  for (const json& v : list(status, "versions")) name = std::max(name, width_of(label_of(v)));
  name = std::min<size_t>(name, 32);
  page.put(pad("version", name) + pad("  state", 12) + pad("  proof", 12), Ink::kSoft);
  for (const char* head : {"traffic", "req/s", "p50", "p99", "errors", "conf"})
    page.put(pad(head, 10, true), Ink::kSoft);
  page.end();
  for (const json& v : list(status, "versions")) {
    const json& r = at(v, "recent");
    const double requests = number(r, "requests_per_s");
    const double errors = requests > 0 ? (number(r, "faults_per_s") + number(r, "timeouts_per_s")) / requests : 0;
    const double confidence = number(r, "confidence");
    const bool off = at(at(v, "scores"), "on") == false;
    page.put(pad(label_of(v), name), Ink::kBold);
    page.put("  " + pad(text(v, "role"), 10), text(v, "role") == "warm" ? Ink::kSoft : ink_of(text(v, "role")));
    page.put("  " + pad(text(v, "proof"), 10), ink_of(text(v, "proof")));
    page.put(pad(share_of(number(v, "share")), 10, true) + pad(rate(requests), 10, true));
    page.put(pad(time_of(number(r, "p50_ms")), 10, true) + pad(time_of(number(r, "p99_ms")), 10, true));
    page.put(pad(share_of(errors), 10, true), errors > 0.01 ? Ink::kBad : Ink::kPlain);
    page.put(pad(off ? "off" : std::isfinite(confidence) ? fmt::format("{:.3f}", confidence) : "-", 10, true));
    page.end();
  }
  for (const json& entry : list(status, "unavailable")) {
    page.put(fmt::format("{}: {} {}", text(entry, "model"), text(entry, "state"), text(entry, "reason")), Ink::kBad);
    page.end();
  }
}

void rollouts(Page& page, const json& status) {
  for (const json& r : list(status, "rollouts")) {
    const std::string state = text(r, "state");
    if (state == "idle") continue;
    page.end();
    page.put(fmt::format("rollout {} v{} ", text(r, "model"), whole(r, "candidate")), Ink::kBold);
    page.put(state, ink_of(state)).put("  ");
    const json& steps = list(r, "steps");
    for (size_t i = 0; i < steps.size(); ++i) {
      const json& step = steps[i].is_object() ? at(steps[i], "share") : steps[i];
      const bool here = static_cast<int64_t>(i) == whole(r, "step");
      page.put(i == 0 ? "" : " > ", Ink::kSoft);
      page.put(step.is_number() ? share_of(step.get<double>()) : "?", here ? Ink::kBold : Ink::kSoft);
    }
    page.end();
    if (!text(r, "reason").empty()) page.put("  " + text(r, "reason")).end();
    for (const json& v : list(r, "verdicts")) {
      page.put("  " + pad(text(v, "verdict"), 14), ink_of(text(v, "verdict"))).put(pad(text(v, "name"), 14));
      page.put(text(v, "sentence"), Ink::kSoft).end();
    }
  }
}

}  // namespace

std::string sparkline(const std::vector<double>& values, size_t width) {
  constexpr std::array<const char*, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const size_t first = values.size() > width ? values.size() - width : 0;
  double top = 0;
  for (size_t i = first; i < values.size(); ++i)
    if (std::isfinite(values[i])) top = std::max(top, values[i]);
  std::string line;
  for (size_t i = first; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      line += ' ';
      continue;
    }
    const double part = top > 0 ? std::max(values[i], 0.0) / top : 0;
    line += kBlocks[static_cast<size_t>(std::lround(part * 7))];
  }
  return line;
}

std::string terminal_view(const json& status, const json& series, const std::string& url,
                          const TerminalOptions& options) {
  Page page(options);
  const double up_s = (number(status, "now_ms") - number(status, "start_ms")) / 1000;
  page.put("Slipway " + text(status, "slipway"), Ink::kBold)
      .put("  " + clean(url) + "  up " + span_of(up_s) + "  ", Ink::kSoft);
  page.put(at(status, "ready") == true ? "ready" : "not ready", at(status, "ready") == true ? Ink::kGood : Ink::kWarn)
      .end();
  for (const json& a : list(status, "alarms")) {
    const bool firing = text(a, "state") == "firing";
    page.put((firing ? "ALARM " : "pending ") + text(a, "name") + "  ", firing ? Ink::kBad : Ink::kWarn);
    page.put(text(a, "sentence"), firing ? Ink::kBad : Ink::kWarn).end();
  }
  page.end();
  figures(page, status, series);
  page.end();
  versions(page, status);
  rollouts(page, status);
  return page.take();
}

}  // namespace slipway
