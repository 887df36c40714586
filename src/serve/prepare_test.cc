// Models that hang, eat memory or crash while they are made ready, beside one that answers. The program that prepares
// is the real one; only the crash is a script's, for no model is known that crashes it.
#include "serve/prepare.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "base/child.h"
#include "base/file.h"
#include "data/test_folder.h"
#include "engine/engine_testing.h"
#include "engine/program_models.h"
#include "model/graph.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "serve/admin/admin_client.h"
#include "serve/repository.h"
#include "serve/serve_testing.h"
#include "serve/shape_timer.h"

namespace slipway {
namespace {

constexpr const char* kHangs = R"(graph "hangs" ir 8 opset {"": 17} {
  input %x : f32[1,4]
  const %trips : i64[] = {10000000}
  %y = Loop(%trips, _, %x) {body = graph "body" {
    input %i : i64[]
    input %c : bool[]
    input %v : f32[1,4]
    const %more : i64[] = {10000000}
    %w = Loop(%more, _, %v) {body = graph "inner" {
      input %j : i64[]
      input %d : bool[]
      input %u : f32[1,4]
      %t = Neg(%u)
      output %d, %t
    }}
    output %c, %w
  }}
  output %y
})";

constexpr const char* kEatsMemory = R"(graph "eats" ir 8 opset {"": 17} {
  input %x : f32[1]
  const %large : i64[2] = {200000, 100000}
  %wide = Expand(%x, %large)
  %less = Neg(%wide)
  %y = ReduceSum(%less) {keepdims = 0}
  output %y
})";

class Preparation : public testing::Test {
 protected:
  void SetUp() override {
    program_ = slipway_program();
    if (program_.empty()) GTEST_SKIP() << "the program is not built";
    publish("good", scaling_graph(2));
  }
  void publish(const std::string& model, const Graph& graph, const std::string& config = "") {
    const std::string path = version_folder(folder_.path("repo"), model, 1);
    make_folders(path);
    save_onnx(graph, join_path(path, "model.onnx"));
    if (!config.empty()) folder_.write("repo/" + model + "/config.yaml", config);
  }
  ServerOptions options() const {
    return {.repository = folder_.path("repo"), .program = program_, .cache_dir = folder_.path("cache"), .tune = false};
  }
  /// Loads a model while another one answers all the time; what is said of the refusal.
  std::string refusal_beside_traffic(const std::string& model, ErrorCode code) {
    Server server(options());
    server.load("good");
    server.route("good", {.stable = 1});
    std::atomic<bool> stop{false};
    std::atomic<int> answered{0}, failed{0};
    std::thread caller([&] {
      while (!stop)
        ++(infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})), "good").error ? failed
                                                                                                     : answered);
    });
    while (answered + failed == 0) std::this_thread::yield();  // a refusal may be quicker
    std::string why;
    try {
      server.load(model);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      why = error.what();
    }
    stop = true;
    caller.join();
    EXPECT_EQ(failed, 0);
    EXPECT_GT(answered, 0);
    EXPECT_TRUE(server.versions(model).empty());
    for (const IndexEntry& entry : server.index())
      if (entry.model == model) {
        EXPECT_EQ(entry.state, "UNAVAILABLE");
        EXPECT_EQ(entry.reason, why);
      }
    EXPECT_EQ(to_tensor(infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})), "good").outputs[0])
                  .values<float>()[0],
              3);
    return why;
  }

  TestFolder folder_;
  std::string program_;
};

TEST_F(Preparation, LeavesPlansThatOpenWithoutBuilding) {
  Server server(options());
  server.load("good");
  ASSERT_EQ(server.versions("good").size(), 1u);
  const VersionSource& source = server.versions("good")[0]->source();
  EXPECT_EQ(list_folder(folder_.path("cache/plans")).size(), 3u);
  EXPECT_EQ(server.versions("good")[0]->max_rows(), 16);
  EXPECT_TRUE(server.versions("good")[0]->batching().proven);
  EXPECT_EQ(source.first_run->time_us.size(), source.plans.size());
  const InferResponse r = infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})), "good", "1");
  EXPECT_EQ(to_tensor(r.outputs.at(0)).values<float>()[3], 9);
}

TEST_F(Preparation, WithoutACacheItServesAllTheSame) {
  ServerOptions o = options();
  for (const std::string& cache : {std::string(), folder_.write("a file", "") + "/cache"}) {
    o.cache_dir = cache;
    Server server(o);
    server.load("good");
    EXPECT_FALSE(infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})), "good", "1").error);
  }
}

// Shapes that requests bring are timed in the background, and the next load has them ready.
TEST_F(Preparation, TimesTheShapesThatCostEnough) {
  Random random(3);
  publish("attention", random_graph(kTwoFreeAxes, random));
  ServerOptions o = options();
  o.tune = true;
  o.time_after_seconds = 0;
  const Tensor x = random_tensor(DType::kFloat32, {2, 5, 8}, random);
  const auto ready = [](const ModelVersion& version) {
    const std::vector<PreparedShape> shapes = version.source().program->prepared();
    return std::any_of(shapes.begin(), shapes.end(), [](const PreparedShape& shape) {
      return shape.from_file && shape.inputs == std::vector<Dims>{{4, 5, 8}};  // the rows of two, filled up
    });
  };
  Tensor expected;
  {
    Server server(o);
    server.load("attention");
    const auto version = server.versions("attention").at(0);
    expected = to_tensor(infer_and_wait(server, request_of(x), "attention", "1").outputs.at(0));
    for (int i = 0; i < 600 && !ready(*version); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ASSERT_TRUE(ready(*version));
    EXPECT_TRUE(shapes_worth_timing(*version->source().program, 0).empty());
    const Tensor again = to_tensor(infer_and_wait(server, request_of(x), "attention", "1").outputs.at(0));
    EXPECT_EQ(difference(again, expected), "");
  }
  Server server(o);
  server.load("attention");
  const auto version = server.versions("attention").at(0);
  EXPECT_TRUE(ready(*version));
  EXPECT_EQ(version->source().program->info().shapes, 1);
  EXPECT_EQ(difference(to_tensor(infer_and_wait(server, request_of(x), "attention", "1").outputs.at(0)), expected), "");

  o.tune = false;
  Server untuned(o);
  untuned.load("attention");
  EXPECT_FALSE(ready(*untuned.versions("attention").at(0)));
}

// What the cache's file holds is taken only where it is whole; a file of another model's shapes is not.
TEST_F(Preparation, ShapesThatCanNotBeTakenCostNothing) {
  Random random(4);
  publish("attention", random_graph(kTwoFreeAxes, random));
  ServerOptions o = options();
  o.tune = true;
  o.program.clear();
  const VersionSource source = *prepare_version(o, "attention", 1, nullptr, [] { return true; });
  const std::string path = build_timed_shapes(o, "attention", 1, {}, source.sha256, {{{1, 6, 8}}}, "");
  EXPECT_EQ(prepare_version(o, "attention", 1, nullptr, [] { return true; })->program->info().shapes, 1);
  build_timed_shapes(o, "attention", 1, {}, source.sha256, {{{1, 7, 8}}}, "");
  EXPECT_EQ(prepare_version(o, "attention", 1, nullptr, [] { return true; })->program->info().shapes, 2);
  EXPECT_THROW(build_timed_shapes(o, "attention", 1, {}, "other", {{{1, 6, 8}}}, ""), Error);
  EXPECT_THROW(build_timed_shapes(o, "attention", 1, {}, source.sha256, {{{1, 6, 9}}}, ""), Error);
  std::string bytes = read_text_file(path);
  bytes[bytes.size() - 1] = static_cast<char>(~bytes[bytes.size() - 1]);
  write_file(path, bytes);
  EXPECT_EQ(prepare_version(o, "attention", 1, nullptr, [] { return true; })->program->info().shapes, 0);
}

TEST_F(Preparation, StringsAreServedByTheReference) {
  publish("text", identity_graph(DType::kString, Shape({Dim("N")})));
  Server server(options());
  server.load("text");
  const Tensor x = Tensor::of_strings({2}, {"a", "b"});
  EXPECT_TRUE(to_tensor(infer_and_wait(server, request_of(x), "text", "1").outputs.at(0)).identical(x));
}

TEST_F(Preparation, AModelThatHangsIsRefusedWhileAnotherAnswers) {
  publish("hangs", parse_text(kHangs), "prepare: {seconds: 3}\n");
  const std::string why = refusal_beside_traffic("hangs", ErrorCode::kDeadline);
  EXPECT_NE(why.find("prepares hangs/1 was not done within 3 s; raise prepare.seconds"), std::string::npos) << why;
}

TEST_F(Preparation, AModelThatEatsMemoryIsRefusedWhileAnotherAnswers) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "its shadow memory leaves no room for a limit";
#endif
  publish("eats", parse_text(kEatsMemory), "prepare: {memory_mib: 700}\n");
  const std::string why = refusal_beside_traffic("eats", ErrorCode::kUnsupported);
  EXPECT_NE(why.find("700 MiB are allowed"), std::string::npos) << why;
}

TEST_F(Preparation, WantOfMemoryInTheServersOwnProcessCostsThatLoad) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "it aborts where malloc would refuse";
#endif
  program_ = "";
  std::string more = kEatsMemory;
  more.replace(more.find("200000, 100000"), 14, "500000, 500000");  // a terabyte
  publish("eats", parse_text(more));
  const std::string why = refusal_beside_traffic("eats", ErrorCode::kUnsupported);
  EXPECT_NE(why.find("more memory than it may have"), std::string::npos) << why;
}

TEST_F(Preparation, ACrashIsARefusalWhileAnotherModelAnswers) {
  publish("crashes", scaling_graph(3));
  const std::string script =
      folder_.write("program",
                    "#!/bin/bash\njob=$(cat)\ncase $job in *'\"crashes\"'*) kill -SEGV $$;; esac\n"
                    "printf %s \"$job\" | " +
                        program_ + " prepare\n");
  ::chmod(script.c_str(), 0755);
  program_ = script;
  const std::string why = refusal_beside_traffic("crashes", ErrorCode::kUnsupported);
  EXPECT_NE(why.find("prepares crashes/1 died: signal 11"), std::string::npos) << why;
}

TEST_F(Preparation, AnAnswerThatIsNoneIsARefusal) {
  for (const char* answer : {"echo '{\"sha256\": 3}'", "echo nonsense", "true", "echo '{\"error\": 3, \"code\": 1}'"}) {
    const std::string script = folder_.write("program", std::string("#!/bin/bash\ncat >/dev/null\n") + answer + "\n");
    ::chmod(script.c_str(), 0755);
    ServerOptions o = options();
    o.program = script;
    Server server(o);
    EXPECT_NE(error_of([&] { server.load("good"); }).find("an answer that is none"), std::string::npos) << answer;
  }
}

/// While it was prepared: what is live is asked when the table changes, not before.
TEST_F(Preparation, AVersionPromotedDuringAReloadKeepsItsBytes) {
  const std::string waits =
      folder_.write("program", "#!/bin/bash\nanswer=$(" + program_ + " prepare)\ncd " + folder_.path() +
                                   "\ntouch ready\nuntil [ -e go ]; do sleep 0.02; done\necho \"$answer\"\n");
  ::chmod(waits.c_str(), 0755);
  ServerOptions o = options();
  o.program = waits;
  folder_.write("go", "");
  Server server(o);
  server.load("good");
  ::unlink(folder_.path("go").c_str());
  ::unlink(folder_.path("ready").c_str());
  publish("good", scaling_graph(5));
  std::string why;
  std::thread loading([&] { why = error_of([&] { server.load("good"); }); });
  while (!file_exists(folder_.path("ready"))) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  server.route("good", {.stable = 1});
  folder_.write("go", "");
  loading.join();
  EXPECT_NE(why.find("nothing proves the new ones"), std::string::npos) << why;
  EXPECT_EQ(to_tensor(infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})), "good").outputs[0])
                .values<float>()[0],
            3);
}

TEST_F(Preparation, EachModelAnswersAsSoonAsItIsWarmAndDrainingEndsTheRest) {
  publish("a hangs", parse_text(kHangs));
  Server server(options());
  std::thread loading([&] { server.load_all(); });
  for (bool warm = false; !warm; std::this_thread::sleep_for(std::chrono::milliseconds(10)))
    warm = !server.versions("good").empty();
  server.route("good", {.stable = 1});
  EXPECT_FALSE(infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})), "good").error);
  EXPECT_EQ(server.index().at(0).state, "LOADING");
  EXPECT_FALSE(server.ready());
  EXPECT_TRUE(server.drain(10'000));
  loading.join();  // or this test never ends
  EXPECT_EQ(server.index().at(0).state, "UNAVAILABLE");
}

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return ntohs(address.sin_port);
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  const std::string tasks = fmt::format("/proc/{}/task", pid);
  for (const std::string& task : list_folder(tasks)) {
    std::ifstream file(join_path(join_path(tasks, task), "children"));
    for (pid_t child = 0; file >> child;) children.push_back(child);
  }
  return children;
}

TEST_F(Preparation, AServerThatStillLoadsShowsItsMetricsAndObeysSigterm) {
  publish("a hangs", parse_text(kHangs));
  const int port = free_port(), admin = free_port();
  const std::string log = folder_.write("log", "");
  const int out = ::open(log.c_str(), O_WRONLY | O_CLOEXEC);
  const pid_t pid =
      start_child({.program = program_,
                   .arguments = {"slipway", "serve", folder_.path("repo"), "--http-port", std::to_string(port),
                                 "--grpc-port", "0", "--admin-port", std::to_string(admin), "--cache-dir",
                                 folder_.path("cache"), "--allow-unverified", "--no-tune"},
                   .output = out,
                   .errors = out});
  ::close(out);
  const auto get = [](int of_port, const std::string& target) -> AdminReply {
    try {
      return admin_call(fmt::format("http://127.0.0.1:{}", of_port), "GET", target, "", "", 5000);
    } catch (const Error& error) {
      return {.status = 0, .body = error.what()};
    }
  };
  const auto ended = [&](int& status) { return ::waitpid(pid, &status, WNOHANG) == pid; };
  int status = 0;
  while (get(port, "/v2/models/good/ready").status != 200) {
    ASSERT_FALSE(ended(status)) << read_text_file(log);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_NE(get(admin, "/metrics").body.find("slipway_"), std::string::npos);
  EXPECT_NE(get(port, "/v2/health/ready").status, 200) << "not all is loaded";
  const std::vector<pid_t> children = children_of(pid);
  EXPECT_EQ(children.size(), 1u);
  ::kill(pid, SIGTERM);
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << ending_of(status) << read_text_file(log);
  for (const pid_t child : children) EXPECT_NE(::kill(child, 0), 0) << "the process that prepared is still there";
}

}  // namespace
}  // namespace slipway
