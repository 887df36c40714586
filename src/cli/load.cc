// slipway load: load, soak and replay against a running server, with thresholds and a page of curves.
#include "load/load.h"

#include <fmt/chrono.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/visible.h"
#include "cli/cli.h"
#include "load/load_report.h"
#include "load/load_samples.h"

namespace slipway {
namespace {

struct LoadFlags {
  LoadOptions load;
  std::string data, recording, soak, html, concurrency_range;
  int concurrency = 0;  ///< 0: the default of the mode
  int64_t samples = 1000;
  double speed = 1;
  LoadThresholds thresholds;
  SoakOptions judge;
  bool json = false, duration_given = false;
};

constexpr int kOpenConcurrency = 256;
constexpr size_t kMaxLevels = 100;

/// "30s", "10m", "24h", or seconds.
double parse_duration(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const std::string_view unit(rest, static_cast<size_t>(end - rest));
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (error != std::errc() || scale == 0 || !(value > 0 && value * scale <= 1e8))
    fail(ErrorCode::kInvalidArgument, "A duration is a number with s, m or h behind it, as in 10m: '{}'", text);
  return value * scale;
}

std::vector<int> parse_range(const std::string& text) {
  int bounds[3] = {0, 0, 1};
  size_t count = 0;
  const char *at = text.data(), *end = at + text.size();
  for (; count < 3; ++count) {
    const auto [rest, error] = std::from_chars(at, end, bounds[count]);
    if (error != std::errc()) break;
    at = rest;
    if (at == end || *at != ':') {
      ++count;
      break;
    }
    ++at;
  }
  if (at != end || count < 2 || bounds[0] < 1 || bounds[1] < bounds[0] || bounds[2] < 1 ||
      static_cast<size_t>((bounds[1] - bounds[0]) / bounds[2]) >= kMaxLevels)
    fail(ErrorCode::kInvalidArgument,
         "A range of concurrencies is START:END or START:END:STEP, at most {} of them: '{}'", kMaxLevels, text);
  std::vector<int> levels;
  for (int level = bounds[0]; level <= bounds[1]; level += bounds[2]) levels.push_back(level);
  return levels;
}

void require_consistent(const LoadFlags& o) {
  if (!o.data.empty() && !o.recording.empty())
    fail(ErrorCode::kInvalidArgument, "Samples come from --data or from --recording, not from both.");
  if (o.load.predict && o.data.empty())
    fail(ErrorCode::kInvalidArgument, "--predict posts pictures; say which with --data.");
  if (o.load.poisson && o.load.rate <= 0)
    fail(ErrorCode::kInvalidArgument, "--poisson spreads a rate; give one with --rate.");
  if (!o.concurrency_range.empty() && (o.load.rate > 0 || !o.soak.empty() || o.concurrency != 0))
    fail(ErrorCode::kInvalidArgument, "--concurrency-range stands without --concurrency, --rate and --soak.");
  if (!o.soak.empty() && (o.duration_given || o.load.max_requests > 0))
    fail(ErrorCode::kInvalidArgument, "--soak says how long; leave out --duration-s and --requests.");
  if (!o.soak.empty() && o.load.admin_url.empty())
    fail(ErrorCode::kInvalidArgument, "--soak judges the server's memory; name its admin port with --admin.");
  if (o.samples < 1 || o.load.max_requests < 0 || !(o.speed > 0) || o.concurrency < 0)
    fail(ErrorCode::kInvalidArgument, "Samples, requests, speed and concurrency must be positive: {}, {}, {} and {}",
         o.samples, o.load.max_requests, o.speed, o.concurrency);
}

/// "446 samples of data.yaml", and that more were to be had.
std::string words_of(size_t samples, const char* what, const Dataset& data, const SampleLimits& limits) {
  const auto all = static_cast<size_t>(std::min(data.size(Split::kTest), limits.max_samples));
  return fmt::format("{} {} of {}{}", samples, what, data.path(),
                     samples < all ? fmt::format(", of {}: as many as {} MiB hold", all, limits.max_bytes >> 20) : "");
}

/// The samples, and what they are in words. Settles the model's name.
std::vector<LoadSample> make_samples(LoadFlags& o, bool replay, std::string& words) {
  LoadOptions& load = o.load;
  std::vector<LoadSample> samples;
  if (!o.recording.empty()) {
    const std::vector<RecordedRequest> records = read_recording(o.recording);
    samples = recorded_samples(records, load.model, replay ? o.speed : 0);
    if (load.model.empty()) load.model = records.front().model;
    words = fmt::format("{} requests of {}", samples.size(), o.recording);
  }
  if (load.model.empty()) try {
      load.model = only_model(load.url, load.tls);
    } catch (const Error& error) {
      // /predict finds the only model itself, also on servers that keep no index.
      if (!load.predict || error.code() != ErrorCode::kNotFound) throw;
    }
  const SampleLimits limits{.max_samples = o.samples};
  if (load.predict) {
    if (!load.model.empty())
      describe_model(load.url, load.model, load.version, load.tls);  // a wrong name is said at once
    const Dataset data = Dataset::open(o.data);
    samples = picture_samples(data, limits);
    words = words_of(samples.size(), "pictures", data, limits);
    return samples;
  }
  const ModelDescription model = describe_model(load.url, load.model, load.version, load.tls);
  if (!o.data.empty()) {
    const Dataset data = Dataset::open(o.data);
    samples = dataset_samples(data, model, limits);
    words = words_of(samples.size(), "samples", data, limits);
  } else if (o.recording.empty()) {
    samples = random_samples(model, std::min<int64_t>(o.samples, 16), load.seed);
    words = "random tensors";
  }
  return samples;
}

int run_load(LoadFlags o) {
  require_consistent(o);
  LoadOptions& load = o.load;
  load.quiet = o.json;
  if (!o.html.empty()) require_writable(o.html);
  const bool replay = !o.recording.empty() && load.rate <= 0 && o.concurrency == 0 && o.concurrency_range.empty();
  std::vector<int> levels = {o.concurrency != 0 ? o.concurrency : load.rate > 0 || replay ? kOpenConcurrency : 1};
  if (!o.concurrency_range.empty()) levels = parse_range(o.concurrency_range);
  if (!o.soak.empty()) load.seconds = parse_duration(o.soak);

  LoadReport report{.url = load.url, .predict = load.predict};
  const std::vector<LoadSample> samples = make_samples(o, replay, report.samples);
  if (replay && !o.duration_given && o.soak.empty()) {  // once, from the first to the last
    load.warm_up_seconds = 0;
    load.seconds = static_cast<double>(samples.back().at_us) * 1e-6 + load.timeout_seconds;
    load.max_requests = static_cast<int64_t>(samples.size());
  }
  if (!o.json)
    fmt::print("{}{}: {}\n", load.model.empty() ? "" : visible(load.model) + " at ", load.url, report.samples);
  std::fflush(stdout);
  for (const int level : levels) {
    load.concurrency = level;
    report.levels.push_back({level, load.rate, load.poisson, replay, run_load(load, samples)});
    if (interrupted()) break;
  }
  const LoadResult& last = report.levels.back().result;
  report.checks = check_load(last, o.thresholds);
  if (!o.soak.empty()) report.soak = judge_soak(last, o.judge);
  report.date = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)));
  if (!o.html.empty()) write_file(o.html, std::string_view(load_report_html(report)));
  if (o.json)
    print_json(to_json(report));
  else
    fmt::print("{}{}", visible(load_report_text(report), true), o.html.empty() ? "" : "page: " + o.html + "\n");
  if (report.failed()) return exit_status(ErrorCode::kVerificationFailed);
  return last.interrupted ? exit_status(ErrorCode::kInterrupted) : 0;
}

}  // namespace

void add_load(Cli& cli) {
  auto o = std::make_shared<LoadFlags>();
  CLI::App* verb = add_verb(
      cli, "load", "Put a running server under load: closed or open loop, replay, soak, with thresholds",
      "  slipway load http://127.0.0.1:8000 --data data.yaml --concurrency 16\n"
      "      how much it can do: 16 requests always under way, real samples\n"
      "  slipway load grpc://127.0.0.1:8001 --rate 500 --poisson --max-p99-ms 20 --max-error-rate 0\n"
      "      how it feels at 500 requests a second: latency counts from when a request was due, so a stall of the\n"
      "      server shows in full; exit status 1 when a threshold is missed\n"
      "  slipway load http://127.0.0.1:8000 --predict --data data.yaml --concurrency-range 1:16:5 --html load.html\n"
      "      pictures to /predict at concurrency 1, 6, 11 and 16, with a page of curves\n"
      "  slipway load http://127.0.0.1:8000 --recording live.rec --speed 2\n"
      "      recorded requests at twice their pace (with --concurrency: as fast as they are answered)\n"
      "  slipway load http://127.0.0.1:8000 --rate 200 --soak 24h --admin http://127.0.0.1:8002 --html soak.html\n"
      "      whether memory or latency creep: slopes with their confidence, exit status 1 on a leak",
      o->json);
  LoadOptions& load = o->load;
  verb->add_option("url", load.url, "The server: http://HOST:PORT or grpc://HOST:PORT; with TLS https:// or grpcs://")
      ->required();
  add_tls_client(*verb, load.tls);
  verb->add_option("--model", load.model, "Model; not needed where only one is ready");
  verb->add_option("--model-version", load.version, "Version; the live one without it");
  verb->add_option("--data", o->data, "Data file (slipway data init), whose test samples are sent; random without it");
  verb->add_option("--recording", o->recording, "Recording of live requests to send again");
  verb->add_option("--speed", o->speed, "Times as fast as recorded")->capture_default_str();
  verb->add_option("--samples", o->samples, "Samples of the data to send in turn")->capture_default_str();
  verb->add_flag("--predict", load.predict, "Post pictures to /predict instead of tensors");
  verb->add_option("--concurrency", o->concurrency,
                   "Requests under way at once: always (closed loop, 1 without it), or at most (open loop, 256)");
  verb->add_option("--concurrency-range", o->concurrency_range, "START:END:STEP, one load for each");
  verb->add_option("--rate", load.rate, "Requests a second, whether or not the server keeps up: an open loop");
  verb->add_flag("--poisson", load.poisson, "Random gaps, as independent users make them, instead of equal ones");
  verb->add_option("--seed", load.seed, "Of the random gaps and tensors")->capture_default_str();
  verb->add_option_function<double>(
          "--duration-s",
          [o = o.get()](double seconds) {
            o->load.seconds = seconds;
            o->duration_given = true;
          },
          "Seconds of each load (10; a recording once)")
      ->type_name("FLOAT");
  verb->add_option("--warm-up-s", load.warm_up_seconds, "Seconds before that, not counted")->capture_default_str();
  verb->add_option("--requests", load.max_requests, "End after so many requests, if that comes first");
  verb->add_option("--timeout-s", load.timeout_seconds, "Seconds until a request is given up")->capture_default_str();
  verb->add_option("--admin", load.admin_url, "The server's admin URL, for its CPU and memory, beside the URL to load");
  verb->add_option("--max-p99-ms", o->thresholds.max_p99_ms, "Exit status 1 when p99 is above");
  verb->add_option("--max-error-rate", o->thresholds.max_error_rate, "Exit status 1 when a larger share fails");
  verb->add_option("--min-throughput", o->thresholds.min_throughput_per_s,
                   "Exit status 1 when fewer good responses a second come");
  verb->add_option("--soak", o->soak, "Run so long (30s, 10m, 24h) and judge whether memory grows; needs --admin");
  verb->add_option("--max-memory-slope-mib-per-hour", o->judge.max_memory_slope_mib_per_hour,
                   "Growth that a soak allows")
      ->capture_default_str();
  verb->add_option("--html", o->html, "Page of curves to write");
  verb->callback([=, &cli] { cli.exit_code = run_load(*o); });
}

}  // namespace slipway
