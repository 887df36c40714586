// Measuring in child processes. The child works in a fresh thread: libgomp's pool of the forking thread does not
// survive a fork, and a fresh thread's allocations reuse nothing that the parent had freed, so memory is counted
// whole. A socket pair carries JSON texts behind their length; shutting it down ends the child even where a later child
// holds a copy of the descriptor.
#include "verify/measure.h"

#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/memory.h"
#include "base/random.h"
#include "engine/session.h"

namespace slipway {

using nlohmann::json;

namespace {

constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 30;
constexpr size_t kMaxRuns = size_t{1} << 20;
constexpr int kPollMs = 100;
constexpr int64_t kGraceNs = 5'000'000'000;  ///< for a child to end what it does, once nobody waits for it

bool write_all(int fd, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::send(fd, at, bytes, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

/// False at the end, and when the process is to end: the signal may have come to another thread.
bool read_all(int fd, void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, kPollMs) <= 0) {
      if (interrupted()) return false;
      continue;
    }
    const ssize_t n = ::recv(fd, at, bytes, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

bool send_json(int fd, const json& message) {
  const std::string text = message.dump(-1, ' ', false, json::error_handler_t::replace);
  const uint64_t size = text.size();
  return write_all(fd, &size, sizeof size) && write_all(fd, text.data(), text.size());
}

bool receive_json(int fd, json& message) {
  uint64_t size = 0;
  if (!read_all(fd, &size, sizeof size) || size > kMaxMessageBytes) return false;
  std::string text(size, '\0');
  if (!read_all(fd, text.data(), size)) return false;
  message = json::parse(text, nullptr, false);
  return !message.is_discarded();
}

json error_message(ErrorCode code, const char* what) { return {{"error", what}, {"code", static_cast<int>(code)}}; }

void serve(int fd, const ChildProcess::Answer& answer) {
  for (json request; receive_json(fd, request);) {
    json reply;
    try {
      reply = answer(request);
    } catch (const Error& error) {
      reply = error_message(error.code(), error.what());
    } catch (const std::exception& error) {
      reply = error_message(ErrorCode::kInternal, error.what());
    }
    if (!send_json(fd, reply)) return;
  }
}

int64_t preemptions() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

// The peak so far becomes what is resident now; where the kernel refuses, the parent's peak stays in the figure.
void reset_peak() {
  ::malloc_trim(0);
  if (std::FILE* file = std::fopen("/proc/self/clear_refs", "we")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}

// Wider integers are likely ids, of which 0 and 1 are always among the known ones.

/// What a measuring child runs: an opened plan file, with inputs and outputs bound where it is one plan.
class Runner {
 public:
  Runner(const std::string& path, std::vector<Tensor> inputs)
      : program_(open_program(path)), inputs_(inputs.empty() ? made_up() : std::move(inputs)) {
    program_->prepare(inputs_);
    const PreparedShape shape = program_->prepared().at(0);
    if (!shape.whole) {
      stages_ = program_->open();
      return;
    }
    whole_.emplace(shape.plans[0]);
    for (const PortInfo& port : shape.plans[0]->outputs()) outputs_.emplace_back(port.dtype, port.dims);
    for (const Tensor& t : inputs_) in_.push_back(t.raw());
    for (Tensor& t : outputs_) out_.push_back(t.mutable_raw());
  }
  void run() {
    if (whole_)
      whole_->run(in_, out_);
    else
      stages_->run(inputs_);
  }
  int threads() const {
    const auto plans = plans_of(*program_);
    return plans.empty() ? 1 : plans[0]->threads();
  }
  json facts() const {
    const auto plans = plans_of(*program_);
    const ProgramInfo info = program_->info();
    MemoryInfo m{.arena_bytes = info.session_bytes, .weight_bytes = info.weight_bytes};
    if (whole_) m = whole_->plan().memory();
    json inputs = json::array();
    for (const Tensor& t : inputs_) inputs.push_back(t.dims());
    return {{"inputs", std::move(inputs)},        {"threads", threads()},
            {"whole", whole_.has_value()},        {"precision", precision_of(plans)},
            {"arena_bytes", m.arena_bytes},       {"lower_bound_bytes", m.lower_bound_bytes},
            {"unshared_bytes", m.unshared_bytes}, {"scratch_bytes", m.scratch_bytes},
            {"weight_bytes", m.weight_bytes},     {"choices_digest", choices_digest_of(plans)}};
  }

 private:
  std::vector<Tensor> made_up() const {
    const std::vector<PreparedShape> shapes = program_->prepared();
    if (shapes.empty()) fail(ErrorCode::kInvalidArgument, "The plan file holds no plan; build it again");
    std::vector<PortInfo> ports;
    for (const ModelPort& port : program_->ports().inputs)
      ports.push_back({port.name, port.dtype, shapes[0].inputs[ports.size()]});
    return random_inputs(ports);
  }

  const std::shared_ptr<const Program> program_;
  std::vector<Tensor> inputs_, outputs_;
  std::optional<Session> whole_;
  std::unique_ptr<ProgramSession> stages_;
  std::vector<const void*> in_;
  std::vector<void*> out_;
};

/// What a measuring child does: opens at the first request, runs at the others.
ChildProcess::Answer measuring(const std::string& plan_path, const std::vector<Tensor>& inputs) {
  auto runner = std::make_shared<std::unique_ptr<Runner>>();
  auto start_bytes = std::make_shared<uint64_t>(0);
  return [=, round = 0](const json& request) mutable -> json {
    if (!*runner) {
      reset_peak();
      *start_bytes = resident_bytes();
      const int64_t start = now_ns();
      *runner = std::make_unique<Runner>(plan_path, inputs);
      (*runner)->run();
      const double first_ms = static_cast<double>(now_ns() - start) * 1e-6;
      json facts = (*runner)->facts();
      facts["first_result_ms"] = first_ms;
      return facts;
    }
    // Virtual CPUs differ in speed while others use the same core: the n-th round of every plan is on the same one.
    if ((*runner)->threads() == 1) stay_on_cpu(round++);
    const int64_t begin = now_ns(), preempted = preemptions();
    const int64_t end = begin + static_cast<int64_t>(request.at("seconds").get<double>() * 1e9);
    const auto min_runs = request.at("min_runs").get<size_t>();
    std::vector<double> times_ms;
    times_ms.reserve(1 << 12);
    for (int64_t before = now_ns(); (before < end && times_ms.size() < kMaxRuns) || times_ms.size() < min_runs;) {
      (*runner)->run();
      const int64_t after = now_ns();
      times_ms.push_back(static_cast<double>(after - before) * 1e-6);
      before = after;
    }
    const double seconds = static_cast<double>(std::max<int64_t>(now_ns() - begin, 1)) * 1e-9;
    const uint64_t peak = peak_resident_bytes();
    return {{"times_ms", times_ms},
            {"peak_bytes", peak},
            {"preemptions_per_s", static_cast<double>(preemptions() - preempted) / seconds},
            {"over_start_bytes", peak - std::min(peak, *start_bytes)}};
  };
}

}  // namespace

std::vector<Tensor> random_inputs(const std::vector<PortInfo>& ports) {
  std::vector<Tensor> inputs;
  Random random(1);
  for (const PortInfo& port : ports) {
    std::vector<double> values(static_cast<size_t>(element_count(port.dims)));
    for (double& v : values)
      v = is_float(port.dtype)         ? random.uniform()
          : port.dtype == DType::kBool ? 1.0
                                       : static_cast<double>(random.below(bits_of(port.dtype) <= 8 ? 100 : 2));
    inputs.push_back(from_doubles(port.dtype, port.dims, values));
  }
  return inputs;
}

std::vector<Tensor> random_inputs(const Graph& graph) {
  std::vector<PortInfo> ports;
  for (const ValueId id : graph.inputs())
    ports.push_back({graph.value(id).name, graph.value(id).dtype, graph.value(id).shape.to_dims()});
  return random_inputs(ports);
}

ChildProcess::ChildProcess(std::string label, const Answer& answer) : label_(std::move(label)) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    fail(ErrorCode::kIo, "A socket pair can't be made: {}", std::strerror(errno));
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) {
    ::close(ends[0]);
    ::close(ends[1]);
    fail(ErrorCode::kIo, "A process can't be started: {}", std::strerror(errno));
  }
  if (pid_ == 0) {
    ::close(ends[0]);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([&] { serve(ends[1], answer); }).join();
    std::_Exit(0);
  }
  ::close(ends[1]);
  socket_ = ends[0];
}

ChildProcess::~ChildProcess() {
  ::shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
  if (interrupted()) {  // it may be in the middle of an answer
    ::kill(pid_, SIGTERM);
    for (const int64_t end = now_ns() + kGraceNs; now_ns() < end;) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(pid_, SIGKILL);
  }
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

json ChildProcess::ask(const json& request) {
  json reply;
  if (!send_json(socket_, request) || !receive_json(socket_, reply)) {
    throw_if_interrupted();
    fail(ErrorCode::kInternal, "The process that measures died, perhaps for lack of memory: {}", label_);
  }
  if (reply.is_object() && reply.contains("error"))
    throw Error(static_cast<ErrorCode>(reply.at("code").get<int>()), reply.at("error").get<std::string>());
  return reply;
}

double build_plan_file(const std::function<Graph()>& load, const ProgramOptions& options,
                       const std::vector<Tensor>& example, const std::string& plan_path, const std::string& label) {
  const int64_t start = now_ns();
  ChildProcess builder(label, [&](const json&) -> json {
    const auto program = compiled_backend().make(load(), options);
    prepare_wholly(*program, {&example, 1});
    save_program(*program, plan_path);
    return json::object();
  });
  builder.ask(json::object());
  return static_cast<double>(now_ns() - start) * 1e-6;
}

MeasuredPlan::MeasuredPlan(const std::string& plan_path, std::string label, std::vector<Tensor> inputs)
    : child_(std::move(label), measuring(plan_path, inputs)) {
  const json j = child_.ask(json::object());
  opened_ = {.first_result_ms = j.at("first_result_ms"),
             .whole = j.at("whole"),
             .threads = j.at("threads"),
             .inputs = j.at("inputs").get<std::vector<Dims>>(),
             .precision = j.at("precision"),
             .choices_digest = j.at("choices_digest"),
             .memory = {.arena_bytes = j.at("arena_bytes"),
                        .lower_bound_bytes = j.at("lower_bound_bytes"),
                        .unshared_bytes = j.at("unshared_bytes"),
                        .scratch_bytes = j.at("scratch_bytes"),
                        .weight_bytes = j.at("weight_bytes")}};
}

MeasuredPlan::Round MeasuredPlan::run(double seconds, int64_t min_runs) {
  const json j = child_.ask({{"seconds", seconds}, {"min_runs", min_runs}});
  return {.times_ms = j.at("times_ms").get<std::vector<double>>(),
          .peak_bytes = j.at("peak_bytes"),
          .peak_over_start_bytes = j.at("over_start_bytes"),
          .preemptions_per_s = j.at("preemptions_per_s")};
}

}  // namespace slipway
