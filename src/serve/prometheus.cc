// Prometheus' text format 0.0.4: one group a family, HELP and TYPE once, base units. Durations are counted in whole
// microseconds, rounded down, by LogBuckets; a bound B of these histograms is the lowest value of one of its buckets,
// so that the count below B is exact.
//
// The text grows with what is used, not with what is loaded: the requests of every version and variant are there from
// the start, at 0; all else of a variant (errors by kind, rows, durations) from its first request on, as is the
// histogram of its batches of a version. The time to the answer, which tells of users, has twice the bounds of the
// parts that it is made of. All series of a histogram have the same bounds, so that they can be added.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "serve/model_version.h"
#include "serve/server.h"

namespace slipway {
namespace {

/// Powers of two in microseconds, 64 µs to 67 s, those where models answer one by one.
constexpr std::array<int64_t, 16> kBounds = {64,    128,   256,   512,    1024,   2048,    4096,     8192,
                                             16384, 32768, 65536, 131072, 524288, 2097152, 16777216, 67108864};
constexpr std::array<int64_t, 8> kPartBounds = {64, 256, 1024, 4096, 16384, 65536, 524288, 16777216};
constexpr std::array<int64_t, 8> kRowBounds = {1, 2, 4, 8, 16, 32, 64, 128};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

struct Seen {
  std::shared_ptr<ModelVersion> version;
  std::string labels;  ///< model="…",version="…"
  std::array<VariantSnapshot, kVariantCount> variants;
  double share = 0;
};

class Text {
 public:
  void family(const char* name, const char* type, const char* help) {
    name_ = name;
    put("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  template <typename Value>
  void sample(std::string_view labels, Value value, const char* suffix = "") {
    if (labels.empty())
      put("{}{} {}\n", name_, suffix, value);
    else
      put("{}{}{{{}}} {}\n", name_, suffix, labels, value);
  }
  /// `scale`: of one unit of the histogram in the metric's unit. Values at a bound lie above it when `below`.
  template <size_t n>
  void histogram(const std::string& labels, const Histogram& h, const std::array<int64_t, n>& bounds, double scale,
                 bool below) {
    const std::vector<int64_t>& counts = h.counts();
    size_t next = 0;
    int64_t seen = 0;
    for (const int64_t bound : bounds) {
      for (; next < counts.size() && LogBuckets::lowest(next) < bound + (below ? 0 : 1); ++next) seen += counts[next];
      sample(fmt::format("{},le=\"{}\"", labels, static_cast<double>(bound) * scale), seen, "_bucket");
    }
    sample(labels + ",le=\"+Inf\"", h.count(), "_bucket");
    sample(labels, static_cast<double>(h.sum()) * scale, "_sum");
    sample(labels, h.count(), "_count");
  }
  std::string take() { return std::move(text_); }

 private:
  template <typename... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }
  std::string text_;
  const char* name_ = "";
};

std::string with_variant(const Seen& s, int variant) {
  return fmt::format("{},variant=\"{}\"", s.labels, to_string(static_cast<Variant>(variant)));
}

std::vector<Seen> look(const Server& server) {
  std::vector<Seen> all;
  for (const auto& version : server.versions()) {
    Seen& s = all.emplace_back();
    s.version = version;
    s.labels = fmt::format("model=\"{}\",version=\"{}\"", escaped(version->model()), version->version());
    for (size_t i = 0; i < s.variants.size(); ++i)
      if (version->metrics().variants[i].requests > 0) s.variants[i] = snapshot(version->metrics().variants[i]);
    const Routing routing = server.routing(version->model());
    if (version->version() == routing.candidate) s.share += routing.candidate_share / 1e4;
    if (version->version() == routing.stable) s.share += 1 - routing.candidate_share / 1e4;
  }
  return all;
}

/// Calls body(labels, snapshot) for each variant that has had a request.
template <typename Body>
void each_used(const std::vector<Seen>& all, const Body& body) {
  for (const Seen& s : all)
    for (int i = 0; i < kVariantCount; ++i)
      if (const VariantSnapshot& variant = s.variants[static_cast<size_t>(i)]; variant.requests > 0)
        body(with_variant(s, i), variant);
}

void requests(Text& text, const std::vector<Seen>& all) {
  text.family("slipway_requests_total", "counter", "Requests answered, well or not.");
  for (const Seen& s : all)
    for (int i = 0; i < kVariantCount; ++i)
      text.sample(with_variant(s, i), s.variants[static_cast<size_t>(i)].requests);
  text.family("slipway_errors_total", "counter", "Requests answered with an error, by kind.");
  each_used(all, [&](const std::string& labels, const VariantSnapshot& variant) {
    for (int kind = 0; kind < kErrorCodeCount; ++kind)
      text.sample(fmt::format("{},kind=\"{}\"", labels, to_string(static_cast<ErrorCode>(kind))),
                  variant.errors[static_cast<size_t>(kind)]);
  });
  text.family("slipway_rows_total", "counter", "Rows (samples) of the requests that went well.");
  each_used(all, [&](const std::string& labels, const VariantSnapshot& variant) { text.sample(labels, variant.rows); });
  text.family("slipway_nan_answers_total", "counter", "Answers, of requests that went well, that hold a NaN.");
  each_used(all,
            [&](const std::string& labels, const VariantSnapshot& variant) { text.sample(labels, variant.with_nan); });
  text.family("slipway_request_duration_seconds", "histogram",
              "From a request's last byte to its answer, of those that went well.");
  each_used(all, [&](const std::string& labels, const VariantSnapshot& variant) {
    text.histogram(labels, variant.total_us, kBounds, 1e-6, true);
  });
  text.family("slipway_request_queue_duration_seconds", "histogram", "Time in the queue, of requests that went well.");
  each_used(all, [&](const std::string& labels, const VariantSnapshot& variant) {
    text.histogram(labels, variant.queue_us, kPartBounds, 1e-6, true);
  });
  text.family("slipway_request_compute_duration_seconds", "histogram",
              "Time of the batch's computation, of requests that went well.");
  each_used(all, [&](const std::string& labels, const VariantSnapshot& variant) {
    text.histogram(labels, variant.compute_us, kPartBounds, 1e-6, true);
  });
}

void versions(Text& text, const std::vector<Seen>& all) {
  text.family("slipway_batch_rows", "histogram", "Rows of each executed batch.");
  for (const Seen& s : all)
    if (const Histogram rows = s.version->metrics().batch_rows.snapshot(); rows.count() > 0)
      text.histogram(s.labels, rows, kRowBounds, 1, false);
  text.family("slipway_executions_total", "counter", "Batches executed.");
  for (const Seen& s : all) text.sample(s.labels, s.version->metrics().executions.load());
  text.family("slipway_compute_seconds_total", "counter", "Time spent executing batches.");
  for (const Seen& s : all) text.sample(s.labels, static_cast<double>(s.version->metrics().compute_ns.load()) * 1e-9);
  text.family("slipway_batches_closed_total", "counter", "Batches closed, by reason.");
  for (const Seen& s : all) {
    const VersionMetrics& m = s.version->metrics();
    text.sample(s.labels + ",reason=\"size\"", m.closed_by_size.load());
    text.sample(s.labels + ",reason=\"delay\"", m.closed_by_delay.load());
    text.sample(s.labels + ",reason=\"idle\"", m.closed_by_idle.load());
  }
  text.family(
      "slipway_batching", "gauge",
      "1 when requests are batched, for the model's rows are proven independent; 0 when they are computed alone.");
  for (const Seen& s : all) text.sample(s.labels, s.version->batching().proven ? 1 : 0);
  text.family("slipway_queue_depth", "gauge", "Requests waiting.");
  for (const Seen& s : all) text.sample(s.labels, s.version->metrics().queue_depth.load());
  text.family("slipway_version_memory_bytes", "gauge", "Weights and buffers of a version that is warm.");
  for (const Seen& s : all) text.sample(s.labels, s.version->memory_bytes());
  text.family("slipway_version_shapes", "gauge",
              "Combinations of input shapes that are ready: plans, or what a program keeps, at most max_shapes.");
  for (const Seen& s : all) {
    const VersionSource& source = s.version->source();
    text.sample(s.labels,
                source.program != nullptr ? source.program->info().shapes : static_cast<int64_t>(source.plans.size()));
  }
  text.family("slipway_version_shapes_from_file", "gauge",
              "Of slipway_version_shapes, those that a plan file had ready: published, or timed in the background.");
  for (const Seen& s : all) {
    if (s.version->source().program == nullptr) continue;
    const auto shapes = s.version->source().program->prepared();
    text.sample(s.labels, std::count_if(shapes.begin(), shapes.end(), [](const auto& x) { return x.from_file; }));
  }
  text.family("slipway_version_weight_ratio", "gauge", "Share of the model's traffic that is routed to the version.");
  for (const Seen& s : all) text.sample(s.labels, s.share);
  text.family("slipway_version_verified", "gauge",
              "1 when a passing Report of these very bytes stands beside the version.");
  for (const Seen& s : all) text.sample(s.labels, s.version->source().proof == Proof::kPassed ? 1 : 0);
}

void process(Text& text) {
  const ProcessFacts p = process_facts();
  text.family("process_cpu_seconds_total", "counter", "User and system CPU time spent.");
  text.sample("", p.cpu_seconds);
  text.family("process_resident_memory_bytes", "gauge", "Resident memory.");
  text.sample("", p.resident_bytes);
  text.family("process_memory_limit_bytes", "gauge", "The smaller of the cgroup's memory limit and the host's memory.");
  text.sample("", p.memory_limit_bytes);
  text.family("process_start_time_seconds", "gauge", "Start of the process since the epoch.");
  text.sample("", p.start_time_s);
  text.family("process_open_fds", "gauge", "Open file descriptors.");
  text.sample("", p.open_files);
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    text.family("process_max_fds", "gauge", "Most open file descriptors.");
    text.sample("", files.rlim_cur);
  }
  text.family("process_threads", "gauge", "Threads.");
  text.sample("", p.threads);
}

}  // namespace

std::string prometheus_text(const Server& server) {
  Text text;
  const std::vector<Seen> all = look(server);
  requests(text, all);
  versions(text, all);
  text.family("slipway_in_flight_requests", "gauge", "Requests taken in and not answered yet.");
  text.sample("", server.in_flight());
  text.family("slipway_ready", "gauge",
              "1 when every model that could be loaded has a live version, none is being loaded, and the server is not "
              "draining.");
  text.sample("", server.ready() ? 1 : 0);
  text.family("slipway_build_info", "gauge", "The program's version, as a label of a constant 1.");
  text.sample("version=\"" SLIPWAY_VERSION "\"", 1);
  process(text);
  return text.take();
}

}  // namespace slipway
