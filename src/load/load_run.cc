// When requests are due and what became of them. In an open loop the schedule is fixed beforehand (equal gaps, a
// Poisson process, or recorded times) and latency counts from the time a request was due, whether or not it could be
// sent then: a server that stalls delays the requests behind the stall too, and a client that only counted from the
// send would leave them out ("coordinated omission"; Tene, wrk2). Only requests due after the warm-up are counted;
// throughput counts the good responses that arrived within the window.
#include "load/load_run.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"

namespace slipway {
namespace {

constexpr double kMaxPoints = 3600;
constexpr int64_t kLateNs = 1'000'000, kVeryLateNs = 10'000'000, kMiB = 1 << 20;
constexpr int64_t kLogPause = 10;  ///< points between lines of progress where there is no terminal
constexpr size_t kMaxErrorText = 300;

int64_t to_ns(double seconds) { return static_cast<int64_t>(seconds * 1e9); }
double to_seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

int64_t LoadResult::error_count() const {
  int64_t count = 0;
  for (const auto& [kind, n] : errors) count += n;
  return count;
}

double LoadResult::error_rate() const {
  return requests == 0 ? 0 : static_cast<double>(error_count()) / static_cast<double>(requests);
}

LoadRun::LoadRun(const LoadOptions& options, const std::vector<LoadSample>& samples, int64_t now,
                 std::function<ServerFacts()> server)
    : options_(options),
      samples_(samples),
      server_(std::move(server)),
      replay_(options.rate <= 0 && samples.front().at_us >= 0),
      start_ns_(now),
      measure_ns_(now + to_ns(options.warm_up_seconds)),
      end_ns_(measure_ns_ + to_ns(options.seconds)),
      last_finish_ns_(now),
      terminal_(isatty(2) == 1) {
  if (options.rate > 0) pacer_.emplace(options.rate, options.poisson, options.seed);
  result_.point_seconds = std::max(1.0, std::ceil(options.seconds / kMaxPoints));
  point_ns_ = to_ns(result_.point_seconds);
  point_end_ns_ = measure_ns_ + point_ns_;
  if (server_) facts_ = server_();
  advance();
}

void LoadRun::advance() {
  if (pacer_) {
    next_due_ns_ = start_ns_ + pacer_->next_ns();
  } else if (replay_) {
    const auto count = static_cast<int64_t>(samples_.size()), round = taken_ / count;
    const int64_t last_us = samples_.back().at_us, gap_us = std::max<int64_t>(1, last_us / count);
    next_due_ns_ =
        start_ns_ + (round * (last_us + gap_us) + samples_[static_cast<size_t>(taken_ % count)].at_us) * 1000;
  }
}

bool LoadRun::over(int64_t now) const {
  if (result_.interrupted || now >= end_ns_ || (open() && next_due_ns_ >= end_ns_)) return true;
  return options_.max_requests > 0 && counted_ >= options_.max_requests;
}

std::optional<LoadRun::Ticket> LoadRun::take(int64_t now) {
  if (over(now) || (open() && next_due_ns_ > now)) return std::nullopt;
  Ticket ticket{
      .sample = static_cast<size_t>(taken_) % samples_.size(), .due_ns = open() ? next_due_ns_ : now, .sent_ns = now};
  ++taken_;
  if (open()) advance();
  ticket.counted = ticket.due_ns >= measure_ns_;
  if (!ticket.counted) return ticket;
  ++counted_;
  const int64_t late = now - ticket.due_ns;
  max_lateness_ns_ = std::max(max_lateness_ns_, late);
  result_.late_starts += late > kLateNs;
  very_late_ += late > kVeryLateNs;
  return ticket;
}

void LoadRun::finish(const Ticket& ticket, int64_t now, const LoadOutcome& outcome) {
  tick(now);
  const bool good = outcome.error.empty(), in_window = now >= measure_ns_ && now < end_ns_;
  const int64_t latency_us = (now - ticket.due_ns) / 1000;
  if (in_window) {
    done_in_window_ += good;
    (good ? point_good_ : point_errors_) += 1;
    if (good) point_us_.add(latency_us);
  }
  if (!ticket.counted) return;
  last_finish_ns_ = now;
  ++result_.requests;
  if (good) {
    result_.latency_us.add(latency_us);
    result_.service_us.add((now - ticket.sent_ns) / 1000);
    if (options_.on_scores) options_.on_scores(ticket.sample, outcome.scores, outcome.version);
    return;
  }
  const std::string kind(outcome.error);
  if (++result_.errors[kind] == 1) result_.error_texts[kind] = outcome.text.substr(0, kMaxErrorText);
}

int64_t LoadRun::wake_ns(bool can_send) const {
  const int64_t next = std::min(point_end_ns_, end_ns_);
  return open() && can_send ? std::min(next, next_due_ns_) : next;
}

void LoadRun::tick(int64_t now) {
  while (point_end_ns_ <= std::min(now, end_ns_)) close_point(point_end_ns_);
}

void LoadRun::close_point(int64_t end_ns) {
  const int64_t begin_ns = point_end_ns_ - point_ns_;
  const double seconds = to_seconds(end_ns - begin_ns);
  LoadResult::Point point{.t_s = to_seconds(end_ns - measure_ns_),
                          .throughput = static_cast<double>(point_good_) / seconds,
                          .p50_ms = point_us_.quantile(0.5) * 1e-3,
                          .p99_ms = point_us_.quantile(0.99) * 1e-3,
                          .errors = static_cast<double>(point_errors_)};
  if (server_) {
    const ServerFacts facts = server_();
    point.server_rss_mb = facts.resident_bytes / kMiB;
    if (facts_.at_ns > 0 && facts.at_ns > facts_.at_ns && facts.cpu_seconds >= facts_.cpu_seconds)
      point.server_cpu = (facts.cpu_seconds - facts_.cpu_seconds) / to_seconds(facts.at_ns - facts_.at_ns);
    else if (facts.at_ns == facts_.at_ns && !result_.series.empty())
      point.server_cpu = result_.series.back().server_cpu;
    facts_ = facts;
  }
  result_.series.push_back(point);
  point_us_ = Histogram();
  point_good_ = point_errors_ = 0;
  point_end_ns_ = end_ns + point_ns_;
  if (!options_.quiet) show(point);
}

void LoadRun::show(const LoadResult::Point& point) const {
  if (!terminal_ && result_.series.size() % kLogPause != 0) return;
  std::string line = fmt::format("{:.0f} of {:.0f} s: {:.0f}/s, p50 {:.3g} ms, p99 {:.3g} ms, {} errors", point.t_s,
                                 options_.seconds, point.throughput, point.p50_ms, point.p99_ms, result_.error_count());
  if (point.server_rss_mb > 0)
    line += fmt::format(", server {:.2f} cores, {:.1f} MiB", point.server_cpu, point.server_rss_mb);
  std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
}

void LoadRun::interrupt(int64_t now) {
  if (result_.interrupted) return;
  tick(now);
  result_.interrupted = now < end_ns_;
  end_ns_ = std::max(measure_ns_, std::min(end_ns_, now));
}

LoadResult LoadRun::result(int64_t now) {
  // A load that ended by its number of requests ends with the last of them.
  if (options_.max_requests > 0 && counted_ >= options_.max_requests) end_ns_ = std::min(end_ns_, last_finish_ns_);
  tick(now);
  const int64_t rest_ns = end_ns_ - (point_end_ns_ - point_ns_);
  if (rest_ns >= point_ns_ / 2 || (result_.series.empty() && rest_ns > 0)) close_point(end_ns_);
  if (!options_.quiet && terminal_ && !result_.series.empty()) std::fprintf(stderr, "\n");

  LoadResult result = result_;
  result.seconds = to_seconds(end_ns_ - measure_ns_);
  const int64_t most = options_.max_requests > 0 ? options_.max_requests - counted_ : INT64_MAX;
  if (open())
    for (; next_due_ns_ < end_ns_ && result.unsent < most; ++taken_, advance()) {
      if (next_due_ns_ < measure_ns_) continue;
      ++result.unsent;
      max_lateness_ns_ = std::max(max_lateness_ns_, end_ns_ - next_due_ns_);
    }
  const auto due = static_cast<double>(counted_ + result.unsent);
  result.max_lateness_ms = static_cast<double>(max_lateness_ns_) * 1e-6;
  result.kept_up = static_cast<double>(very_late_ + result.unsent) <= 0.01 * due;
  if (result.seconds > 0) {
    result.throughput_per_s = static_cast<double>(done_in_window_) / result.seconds;
    result.offered_per_s = due / result.seconds;
  }
  return result;
}

}  // namespace slipway
