// slipway bench: latency, throughput, start-up and memory of models as they would run, side by side.
//
// Each ONNX file is first built into a plan by a child process; then a child of its own opens the plan, as a server
// would, and is asked in turn, round after round, so that a noisy neighbour hits all models alike.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/memory.h"
#include "base/random.h"
#include "cli/cli.h"
#include "engine/session.h"
#include "metrics/latency.h"

namespace slipway {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> models, dims;
  int64_t batch = 1;
  int threads = 1, rounds = 5;
  double seconds = 3;
  bool json = false, no_tune = false;
};

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    int ends[2];
    if (::pipe(ends) != 0) fail(ErrorCode::kIo, "A pipe can't be made: {}", std::strerror(errno));
    read_end = ends[0];
    write_end = ends[1];
  }
};

void write_all(int fd, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) std::_Exit(3);
    at += n;
    bytes -= static_cast<size_t>(n);
  }
}

bool read_all(int fd, void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::read(fd, at, bytes);
    if (n < 0 && errno == EINTR && !interrupted()) continue;
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

void send_text(int fd, const std::string& text) {
  const uint64_t size = text.size();
  write_all(fd, &size, sizeof size);
  write_all(fd, text.data(), text.size());
}

std::string receive_text(int fd, const std::string& model) {
  uint64_t size = 0;
  std::string text;
  if (read_all(fd, &size, sizeof size) && size < (uint64_t{1} << 30)) {
    text.resize(size);
    if (read_all(fd, text.data(), size)) return text;
  }
  throw_if_interrupted();
  fail(ErrorCode::kInternal, "The process that measures died: {}", model);
}

// Runs `work` in a child; its failure comes back as the same Error.
struct Child {
  pid_t pid = -1;
  Pipe to, from;
  ~Child() {
    ::close(to.write_end);
    ::close(from.read_end);
    if (pid > 0) ::waitpid(pid, nullptr, 0);
  }
};

template <typename Work>
std::unique_ptr<Child> start_child(const Work& work) {
  auto child = std::make_unique<Child>();
  child->pid = ::fork();
  if (child->pid == 0) {
    ::close(child->to.write_end);
    ::close(child->from.read_end);
    try {
      work(child->to.read_end, child->from.write_end);
    } catch (const Error& error) {
      send_text(child->from.write_end, json{{"error", error.what()}, {"code", static_cast<int>(error.code())}}.dump());
    } catch (const std::exception& error) {
      send_text(child->from.write_end,
                json{{"error", error.what()}, {"code", static_cast<int>(ErrorCode::kInternal)}}.dump());
    }
    std::_Exit(0);
  }
  ::close(child->to.read_end);
  ::close(child->from.write_end);
  return child;
}

json receive(Child& child, const std::string& model) {
  json answer = json::parse(receive_text(child.from.read_end, model));
  if (answer.contains("error"))
    throw Error(static_cast<ErrorCode>(answer.at("code").get<int>()), answer.at("error").get<std::string>());
  return answer;
}

std::vector<Tensor> random_inputs(const Plan& plan) {
  std::vector<Tensor> inputs;
  Random random(1);
  for (const PortInfo& port : plan.inputs()) {
    std::vector<double> values(static_cast<size_t>(element_count(port.dims)));
    for (double& v : values)
      v = is_float(port.dtype)         ? random.uniform()
          : port.dtype == DType::kBool ? 1.0
                                       : static_cast<double>(random.below(100));
    inputs.push_back(from_doubles(port.dtype, port.dims, values));
  }
  return inputs;
}

// Opens the plan, says how long until the first result, then times runs for as long as it is told, again and again.
void measure(const std::string& plan_path, int commands, int answers) {
  const uint64_t start_bytes = resident_bytes();
  const int64_t start = now_ns();
  const auto plan = Plan::open(plan_path);
  Session session(plan);
  const std::vector<Tensor> inputs = random_inputs(*plan);
  std::vector<Tensor> outputs;
  for (const PortInfo& port : plan->outputs()) outputs.emplace_back(port.dtype, port.dims);
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const Tensor& t : inputs) in.push_back(t.raw());
  for (Tensor& t : outputs) out.push_back(t.mutable_raw());
  session.run(in, out);
  const double first_ms = static_cast<double>(now_ns() - start) * 1e-6;
  send_text(
      answers,
      json{{"first_result_ms", first_ms}, {"precision", plan->precision()}, {"choices_digest", plan->choices_digest()}}
          .dump());
  double seconds = 0;
  while (read_all(commands, &seconds, sizeof seconds)) {
    const int64_t end = now_ns() + static_cast<int64_t>(seconds * 1e9);
    std::vector<double> times_ms;
    times_ms.reserve(1 << 16);
    while (now_ns() < end || times_ms.size() < 3) {
      const int64_t t = now_ns();
      session.run(in, out);
      times_ms.push_back(static_cast<double>(now_ns() - t) * 1e-6);
    }
    send_text(
        answers,
        json{{"times_ms", times_ms}, {"peak_rss_bytes", peak_resident_bytes()}, {"start_bytes", start_bytes}}.dump());
  }
}

struct Entry {
  std::string model, plan_path;
  bool temporary = false;
  std::unique_ptr<Child> child;
  double build_ms = 0;
  json opened;
  std::vector<double> times_ms, round_medians;
  uint64_t peak = 0, start = 0;
};

void prepare(Entry& entry, const Options& o) {
  entry.plan_path = entry.model;
  if (Plan::is_plan_file(entry.model)) return;
  const char* folder = std::getenv("TMPDIR");
  entry.plan_path = join_path(folder ? folder : "/tmp",
                              fmt::format("slipway-bench-{}-{}.plan", ::getpid(), reinterpret_cast<uintptr_t>(&entry)));
  entry.temporary = true;
  const int64_t start = now_ns();
  const auto builder = start_child([&](int, int answers) {
    const Graph graph = load_model(entry.model);
    Plan::build(graph, {.batch = o.batch,
                        .dims = parse_dims(o.dims),
                        .threads = o.threads,
                        .tune = !o.no_tune,
                        .timing_cache = default_timing_cache(),
                        .quiet = o.json})
        ->save(entry.plan_path);
    send_text(answers, "{}");
  });
  receive(*builder, entry.model);
  entry.build_ms = static_cast<double>(now_ns() - start) * 1e-6;
}

json summary(const Entry& e, const Options& o, const Entry& first) {
  const double median = quantile(e.times_ms, 0.5), p99 = quantile(e.times_ms, 0.99), mean = summarize(e.times_ms).mean;
  json j = {{"model", e.model},
            {"precision", e.opened.at("precision")},
            {"threads", o.threads},
            {"batch", o.batch},
            {"latency_ms_median", median},
            {"latency_ms_p95", quantile(e.times_ms, 0.95)},
            {"latency_ms_p99", p99},
            {"latency_ms_min", *std::min_element(e.times_ms.begin(), e.times_ms.end())},
            {"throughput_per_s", static_cast<double>(o.batch) * 1e3 / mean},
            {"first_result_ms", e.opened.at("first_result_ms")},
            {"build_ms", e.build_ms},
            {"peak_rss_bytes", e.peak},
            {"peak_rss_over_start_bytes", e.peak - e.start},
            {"file_bytes", file_bytes(e.model)},
            {"runs", e.times_ms.size()},
            {"coefficient_of_variation", summarize(e.round_medians).cv},
            {"choices_digest", e.opened.at("choices_digest")}};
  if (&e != &first) {
    std::vector<double> ratios;
    for (size_t i = 0; i < e.round_medians.size(); ++i) ratios.push_back(first.round_medians[i] / e.round_medians[i]);
    j["speedup_over_first"] = quantile(ratios, 0.5);
  }
  return j;
}

void run(const Options& o) {
  if (!(o.seconds > 0) || o.rounds < 1)
    fail(ErrorCode::kInvalidArgument, "Seconds and rounds must be positive: {} and {}", o.seconds, o.rounds);
  std::vector<Entry> entries(o.models.size());
  struct Cleanup {
    std::vector<Entry>& entries;
    ~Cleanup() {
      for (size_t i = entries.size(); i-- > 0;)
        entries[i].child.reset();  // a later child holds the earlier ones' pipes
      for (Entry& e : entries)
        if (e.temporary) ::unlink(e.plan_path.c_str());
    }
  } cleanup{entries};
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].model = o.models[i];
    prepare(entries[i], o);
  }
  for (Entry& e : entries) {
    e.child = start_child([&](int commands, int answers) { measure(e.plan_path, commands, answers); });
    e.opened = receive(*e.child, e.model);
  }
  for (int round = 0; round <= o.rounds; ++round)  // round 0 warms up
    for (Entry& e : entries) {
      throw_if_interrupted();
      const double seconds = round == 0 ? std::min(0.2, o.seconds) : o.seconds / o.rounds;
      write_all(e.child->to.write_end, &seconds, sizeof seconds);
      const json answer = receive(*e.child, e.model);
      const auto times = answer.at("times_ms").get<std::vector<double>>();
      e.peak = answer.at("peak_rss_bytes");
      e.start = answer.at("start_bytes");
      if (round == 0) continue;
      e.times_ms.insert(e.times_ms.end(), times.begin(), times.end());
      e.round_medians.push_back(quantile(times, 0.5));
    }
  Table table({"model", "precision", "median ms", "p99 ms", "per s", "first ms", "memory", "file", "speed-up"});
  for (const Entry& e : entries) {
    const json j = summary(e, o, entries[0]);
    if (o.json) {
      print_json(j);
      continue;
    }
    table.add(
        {e.model, j.at("precision"), fmt::format("{:.3f}", j.at("latency_ms_median").get<double>()),
         fmt::format("{:.3f}", j.at("latency_ms_p99").get<double>()),
         fmt::format("{:.1f}", j.at("throughput_per_s").get<double>()),
         fmt::format("{:.1f}", j.at("first_result_ms").get<double>()),
         human_bytes(j.at("peak_rss_over_start_bytes").get<double>()), human_bytes(j.at("file_bytes").get<double>()),
         j.contains("speedup_over_first") ? fmt::format("{:.2f}x", j.at("speedup_over_first").get<double>()) : ""});
  }
  if (o.json) return;
  table.print();
  fmt::print(
      "\nbatch {}, {} thread{}, {} rounds interleaved over {:g} s each; memory is the peak above the process's start\n",
      o.batch, o.threads, o.threads == 1 ? "" : "s", o.rounds, o.seconds);
  for (const Entry& e : entries) {
    const double cv = summarize(e.round_medians).cv;
    if (cv > 0.025)
      fmt::print("unsteady: {} varies by {:.1f} % between rounds; the machine is busy\n", e.model, 100 * cv);
    if (e.times_ms.size() < 1000)
      fmt::print("p99 of {} comes from {} runs; 1000 make it meaningful (--seconds)\n", e.model, e.times_ms.size());
  }
}

}  // namespace

void add_bench(Cli& cli) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(cli, "bench", "Measure latency, throughput, start-up and memory",
               "  slipway bench model.onnx --batch 32 --threads 2\n"
               "  slipway bench model.onnx model.int8.onnx          side by side, interleaved, with the speed-up",
               o->json);
  verb->add_option("model", o->models, "ONNX files or plans")->required();
  verb->add_option("--batch", o->batch, "Samples a run")->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads a run")->capture_default_str();
  verb->add_option("--seconds", o->seconds, "Seconds to measure each model")->capture_default_str();
  verb->add_option("--rounds", o->rounds, "Rounds that the seconds are cut into")->capture_default_str();
  verb->add_option("--dim", o->dims, "Size of another free dimension, NAME=SIZE (repeatable)");
  verb->add_flag("--no-tune", o->no_tune, "Take the likely fastest candidates without timing them");
  verb->callback([=] { run(*o); });
}

}  // namespace slipway
