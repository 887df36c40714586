#include "serve/repository.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include "base/base64.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/test_folder.h"
#include "engine/engine_testing.h"
#include "engine/session.h"
#include "model/onnx/external_testing.h"
#include "serve/serve_testing.h"
#include "verify/verify_testing.h"

namespace slipway {
namespace {

void publish(const TestFolder& folder, const std::string& model, int64_t version, const Graph& graph) {
  const std::string path = version_folder(folder.path("repo"), model, version);
  make_folders(path);
  save_onnx(graph, join_path(path, "model.onnx"));
}

ServerOptions options_of(const TestFolder& folder) {
  return {.repository = folder.path("repo"), .cache_dir = folder.path("cache"), .tune = false};
}

using Files = std::map<std::string, std::string>;
Files files_in(const std::string& folder) {
  Files files;
  for (const std::string& name : list_folder(folder))
    files[join_path(folder, name)] = read_text_file(join_path(folder, name));
  return files;
}

TEST(Repository, FindsModelsAndVersionsAndLeavesTheRestAlone) {
  const TestFolder folder;
  publish(folder, "a", 2, scaling_graph(1));
  publish(folder, "a", 10, scaling_graph(1));
  make_folders(folder.path("repo/a/03"));
  make_folders(folder.path("repo/a/x"));
  make_folders(folder.path("repo/a/4"));
  make_folders(folder.path("repo/b"));
  EXPECT_EQ(repository_models(folder.path("repo")), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(repository_versions(folder.path("repo"), "a"), (std::vector<int64_t>{2, 10}));
  EXPECT_THROW(repository_models(folder.path("nowhere")), Error);
}

TEST(Repository, LinksThatLeadOutAreRefused) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  make_folders(folder.path("outside"));
  save_onnx(scaling_graph(3), folder.path("outside/model.onnx"));
  folder.write("outside/secret.yaml", "threads: 1\n");
  make_folders(folder.path("repo/m/2"));
  ASSERT_EQ(::symlink(folder.path("outside/model.onnx").c_str(), folder.path("repo/m/2/model.onnx").c_str()), 0);
  ASSERT_EQ(::symlink(folder.path("outside").c_str(), folder.path("repo/m/3").c_str()), 0);
  ASSERT_EQ(::symlink("1", folder.path("repo/m/4").c_str()), 0);
  ServerOptions options = options_of(folder);
  EXPECT_NO_THROW(read_version(options, "m", 1, {}));
  EXPECT_NO_THROW(read_version(options, "m", 4, {})) << "it stays within";
  for (const int64_t version : {2, 3})
    EXPECT_NE(error_of([&] { read_version(options, "m", version, {}); }).find("--allow-links"), std::string::npos);
  ASSERT_EQ(::symlink(folder.path("outside/secret.yaml").c_str(), folder.path("repo/m/config.yaml").c_str()), 0);
  EXPECT_NE(error_of([&] { read_version(options, "m", 1, {}); }).find("config.yaml"), std::string::npos);
  options.allow_links = true;
  for (const int64_t version : {1, 2, 3}) EXPECT_NO_THROW(read_version(options, "m", version, {}));
  ASSERT_EQ(::symlink(folder.path("repo").c_str(), folder.path("same").c_str()), 0);
  ASSERT_EQ(::unlink(folder.path("repo/m/config.yaml").c_str()), 0);
  options = options_of(folder);
  options.repository = folder.path("same");
  EXPECT_NO_THROW(read_version(options, "m", 1, {})) << "the repository itself may be a link";
}

TEST(Repository, PortsAreTensorsWhateverFlowsBetweenThem) {
  const TestFolder folder;
  Graph within = parse_text(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[N,4]
  %rows = SplitToSequence(%x)
  %y = ConcatFromSequence(%rows) {axis = 0}
  output %y
})");
  infer_shapes(within);
  publish(folder, "m", 1, within);
  EXPECT_NO_THROW(read_version(options_of(folder), "m", 1, {}));
  Graph outside = within;
  outside.add_output(outside.find("rows"));
  publish(folder, "m", 2, outside);
  EXPECT_NE(error_of([&] { read_version(options_of(folder), "m", 2, {}); }).find("'rows' is sequence.f32"),
            std::string::npos);
}

TEST(Repository, PipesAndDevicesAreNeverWaitedFor) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  const std::string model = folder.path("repo/m/1/model.onnx"), pipe = folder.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const char* odd : {pipe.c_str(), "/dev/zero", "/dev/tty"}) {
    EXPECT_NE(error_of([&] { load_onnx(odd); }), "") << odd;
    ASSERT_EQ(::unlink(model.c_str()), 0);
    ASSERT_EQ(::symlink(odd, model.c_str()), 0);
    ServerOptions options = options_of(folder);
    options.allow_links = true;
    EXPECT_NE(error_of([&] { read_version(options, "m", 1, {}); }), "") << odd;
  }
}

TEST(Repository, LoadKeepsPlansInTheCacheAndServesWhatIsThere) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  Server server(options_of(folder));
  server.load_all();
  ASSERT_EQ(server.versions("m").size(), 1u);
  EXPECT_EQ(server.versions("m")[0]->source().proof, Proof::kMissing);
  EXPECT_EQ(list_folder(folder.path("cache/plans")).size(), 3u);
  EXPECT_FALSE(server.ready());
  server.route("m", {.stable = 1});
  EXPECT_TRUE(server.ready());
  const InferResponse r = infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})));
  EXPECT_EQ(to_tensor(r.outputs.at(0)).values<float>()[3], 9);
}

TEST(Repository, OneGraphWithOtherDataIsAnotherModel) {
  const TestFolder folder;
  std::set<std::string> digests;
  for (const int version : {1, 2, 3}) {
    const std::string path = version_folder(folder.path("repo"), "m", version) + "/model.onnx";
    save_external(scaling_graph(static_cast<float>(version)), path, "model.data");
    EXPECT_EQ(sha256_of_file(path), sha256_of_file(version_folder(folder.path("repo"), "m", 1) + "/model.onnx"));
  }
  for (const bool cached : {false, true})
    for (const int64_t version : {1, 2, 3}) {
      const VersionSource source = read_version(options_of(folder), "m", version, {});
      digests.insert(source.sha256);
      Session session(source.plans.at(1));
      EXPECT_EQ(session.run(std::vector{Tensor::of<float>({1, 4}, {1, 2, 3, 4})})[0].values<float>()[3],
                static_cast<float>(4 * version + 1))
          << cached;
    }
  EXPECT_EQ(digests.size(), 3u);
  EXPECT_EQ(list_folder(folder.path("cache/plans")).size(), 9u);
}

TEST(Repository, DamagedPlansInTheCacheAreMadeAnew) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  const std::string plans = folder.path("cache/plans");
  read_version(options_of(folder), "m", 1, {});
  const Files cached = files_in(plans);
  ASSERT_EQ(cached.size(), 3u);
  const std::function<void(std::string&)> damages[] = {
      [](std::string& plan) { plan.back() = static_cast<char>(plan.back() ^ 1); },
      [](std::string& plan) { plan.resize(plan.size() / 2); }, [](std::string& plan) { plan.clear(); },
      [](std::string& plan) { plan.assign(plan.size(), '\0'); }};
  for (const auto& damage : damages) {
    for (const auto& [path, plan] : cached) {
      std::string damaged = plan;
      damage(damaged);
      write_file(path, damaged);
    }
    const VersionSource source = read_version(options_of(folder), "m", 1, {});
    EXPECT_EQ(files_in(plans), cached);
    for (const auto& [rows, plan] : source.plans) {
      Session session(plan);
      std::vector<Tensor> inputs;
      for (const PortInfo& port : plan->inputs()) inputs.emplace_back(port.dtype, port.dims);
      EXPECT_EQ(session.run(inputs)[0].values<float>()[0], 1) << rows;
    }
  }
}

// Whatever becomes of the files of a loaded model, the server answers as before.
TEST(Repository, FilesThatAreTruncatedUnderAServerChangeNothing) {
  const TestFolder folder;
  save_external(scaling_graph(2), folder.path("repo/m/1/model.onnx"), "model.data");
  for (const bool cached : {false, true}) {
    SCOPED_TRACE(cached);
    Server server(options_of(folder));
    server.load_all();
    server.route("m", {.stable = 1});
    const Files before = files_in(folder.path("cache/plans")), model = files_in(folder.path("repo/m/1"));
    for (const Files& files : {before, model})
      for (const auto& [path, content] : files) ASSERT_EQ(::truncate(path.c_str(), 0), 0);
    const InferResponse r = infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})));
    EXPECT_EQ(to_tensor(r.outputs.at(0)).values<float>()[3], 9);
    for (const Files& files : {before, model})
      for (const auto& [path, content] : files) write_file(path, content);
  }
}

TEST(Repository, AReloadKeepsWhatDidNotChange) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  Server server(options_of(folder));
  server.load("m");
  server.route("m", {.stable = 1});
  infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})));
  const auto first = server.versions("m")[0];
  publish(folder, "m", 2, scaling_graph(3));
  server.load("m");
  ASSERT_EQ(server.versions("m").size(), 2u);
  EXPECT_EQ(server.versions("m")[0], first) << "its counters with it";
  EXPECT_EQ(first->metrics().variants[0].requests, 1);

  auto last = first;
  const auto is_another = [&] {
    server.load("m");
    const auto now = server.versions("m")[0];
    const bool another = now != last && now->generation() > last->generation();
    last = now;
    return another;
  };
  EXPECT_FALSE(is_another());
  folder.write("repo/m/config.yaml", "batching: {delay_us: 100}\n");
  EXPECT_TRUE(is_another()) << "other configuration";
  folder.write("repo/m/config.yaml", "batching: {delay_us: 100}  # the same\n");
  EXPECT_FALSE(is_another());
  folder.write("repo/m/1/report.json", "{}");
  EXPECT_TRUE(is_another()) << "a report came later";
  EXPECT_FALSE(is_another());
  server.route("m", {.stable = 2});
  publish(folder, "m", 1, scaling_graph(4));
  EXPECT_TRUE(is_another()) << "other bytes";
  EXPECT_EQ(server.routing("m").stable, 2);
}

TEST(Repository, ABrokenModelLeavesTheOldOneAndSaysWhy) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  Server server(options_of(folder));
  server.load_all();
  server.route("m", {.stable = 1});
  write_file(folder.path("repo/m/1/model.onnx"), std::string_view("broken"));
  EXPECT_THROW(server.load("m"), Error);
  EXPECT_FALSE(infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4}))).error);
  EXPECT_NE(server.index().at(0).reason.find("reload failed"), std::string::npos);
  EXPECT_EQ(server.index().at(0).state, "READY");
  publish(folder, "bad", 1, scaling_graph(1));
  write_file(folder.path("repo/bad/1/model.onnx"), std::string_view(""));
  server.load_all();
  EXPECT_EQ(server.index().at(0).state, "UNAVAILABLE");
  for (const char* version : {"", "1"})
    EXPECT_NE(error_of([&] { server.target("bad", version, {}); }).find("The model is not loaded: 'bad"),
              std::string::npos)
        << "whoever asks learns why";
}

TEST(Repository, OneVersionIsLoadedByItself) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  Server server(options_of(folder));
  server.load_all();
  write_file(folder.path("repo/m/1/model.onnx"), std::string_view("broken"));
  publish(folder, "m", 2, scaling_graph(3));
  publish(folder, "m", 3, scaling_graph(4));
  server.load("m", 3);
  EXPECT_EQ(server.versions("m").size(), 2u);
  EXPECT_EQ(server.versions("m").back()->version(), 3);
  EXPECT_THROW(server.load("m", 1), Error);
  EXPECT_NE(error_of([&] { server.load("m", 4); }).find("no such version"), std::string::npos);
}

TEST(Repository, OtherBytesUnderALiveVersionNeedProof) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  Server server(options_of(folder));
  server.load_all();
  server.route("m", {.stable = 1});
  publish(folder, "m", 1, scaling_graph(5));
  EXPECT_THROW(server.load("m"), Error);
  const InferResponse r = infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})));
  EXPECT_EQ(to_tensor(r.outputs.at(0)).values<float>()[0], 3);
  server.route("m", {});
  server.load("m");
  server.route("m", {.stable = 1});
  const InferResponse now = infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})));
  EXPECT_EQ(to_tensor(now.outputs.at(0)).values<float>()[0], 6);
}

TEST(Repository, AReportProvesTheBytesItJudgedAndItsProbesAreRun) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the process that measures is forked here among threads, which its runtime does not survive";
#endif
  const TestFolder folder;
  const SmallNet net;
  const Graph graph = net.graph();
  const std::string model = save_model(graph, folder, "model.onnx");
  const Dataset data = labelled_by(graph, folder, 120);
  Report report = verify({graph, model}, {graph, model}, data, patient_policy(), quick_options());
  ASSERT_EQ(report.verdict, Verdict::kPass) << report.reason;
  make_folders(folder.path("repo/small/1"));
  save_onnx(graph, folder.path("repo/small/1/model.onnx"));
  save_report(report, folder.path("repo/small/1/report.json"));
  const ServerOptions options = options_of(folder);
  EXPECT_EQ(read_version(options, "small", 1, {}).proof, Proof::kPassed);

  // Plans that compute something else are found out by the probes, wherever they come from, and made anew.
  SmallNet other = net;
  other.conv2 = SmallNet::random(other.conv2.size(), 99);
  const Files cached = files_in(folder.path("cache/plans"));
  ASSERT_FALSE(cached.empty());
  const std::string published = folder.path("repo/small/1/model.plan");
  Plan::build(graph, {.tune = false})->save(published);
  EXPECT_EQ(read_version(options, "small", 1, {}).plan_files.at(1), published);
  Report failing = report;
  failing.verdict = Verdict::kFail;
  save_report(failing, folder.path("repo/small/1/report.json"));
  EXPECT_NE(read_version(options, "small", 1, {}).plan_files.at(1), published) << "only a passed report vouches for it";
  save_report(report, folder.path("repo/small/1/report.json"));
  Plan::build(other.graph(), {.tune = false})->save(published);
  for (const auto& [path, plan] : cached)
    Plan::build(other.graph(), {.batch = Plan::open(path)->inputs()[0].dims[0], .tune = false})->save(path);
  EXPECT_NE(files_in(folder.path("cache/plans")), cached);
  EXPECT_EQ(read_version(options, "small", 1, {}).proof, Proof::kPassed);
  EXPECT_EQ(files_in(folder.path("cache/plans")), cached);

  // A model that does not give what was verified is not loaded, and leaves no plan behind.
  Report others = report;
  others.probes[0].outputs = {base64_encode(npy_bytes(Tensor(DType::kFloat32, {1, 6})))};
  save_report(others, folder.path("repo/small/1/report.json"));
  const ServerOptions fresh{.repository = options.repository, .cache_dir = folder.path("fresh"), .tune = false};
  EXPECT_THROW(read_version(fresh, "small", 1, {}), Error);
  EXPECT_FALSE(is_folder(folder.path("fresh/plans")));

  // NaN at one place is not made up for by what follows it.
  const auto with_nan = [](Tensor outputs) {
    outputs.mutable_values<float>()[0] = NAN;
    return base64_encode(npy_bytes(outputs));
  };
  Report odd = report;
  const auto bytes = std::make_shared<std::vector<std::byte>>(*base64_decode(odd.probes[0].outputs[0]));
  odd.probes[0].outputs[0] = with_nan(parse_npy({bytes, *bytes}, "probes"));
  save_report(odd, folder.path("repo/small/1/report.json"));
  EXPECT_THROW(read_version({.repository = options.repository, .tune = false}, "small", 1, {}), Error);

  report.candidate.sha256 = "0";
  save_report(report, folder.path("repo/small/1/report.json"));
  EXPECT_EQ(read_version({.repository = options.repository, .tune = false}, "small", 1, {}).proof, Proof::kMismatched);
}

TEST(Repository, TwentyReloadsUnderLoadFailNothing) {
  const TestFolder folder;
  publish(folder, "m", 1, scaling_graph(2));
  Server server(options_of(folder));
  server.load_all();
  server.route("m", {.stable = 1});
  std::atomic<bool> stop{false};
  std::atomic<int64_t> good{0}, bad{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      while (!stop) {
        try {
          const auto r = infer_and_wait(server, request_of(Tensor::of<float>({1, 4}, {1, 2, 3, 4})));
          ++(r.error ? bad : good);
        } catch (const Error&) {
          ++bad;
        }
      }
    });
  for (int i = 0; i < 20; ++i) {
    folder.write("repo/m/config.yaml", fmt::format("timeout_ms: {}\n", 60'000 + i));
    server.load("m");
  }
  stop = true;
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(bad, 0);
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace slipway
