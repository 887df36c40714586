#include "serve/repository.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "base/base64.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/test_folder.h"
#include "engine/engine_testing.h"
#include "model/onnx/onnx.h"
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
  EXPECT_EQ(read_version(options, "small", 1).proof, Proof::kPassed);

  // Plans that compute something else are found out by the probes, wherever they come from.
  SmallNet other = net;
  other.conv2 = SmallNet::random(other.conv2.size(), 99);
  for (const std::string& name : list_folder(folder.path("cache/plans"))) {
    const int64_t rows = Plan::open(folder.path("cache/plans/" + name))->inputs()[0].dims[0];
    Plan::build(other.graph(), {.batch = rows, .tune = false})->save(folder.path("cache/plans/" + name));
  }
  EXPECT_THROW(read_version(options, "small", 1), Error);

  // NaN at one place is not made up for by what follows it.
  const auto with_nan = [](Tensor outputs) {
    outputs.mutable_values<float>()[0] = NAN;
    return base64_encode(npy_bytes(outputs));
  };
  Report odd = report;
  const auto bytes = std::make_shared<std::vector<std::byte>>(*base64_decode(odd.probes.outputs[0]));
  odd.probes.outputs[0] = with_nan(parse_npy({bytes, *bytes}, "probes"));
  save_report(odd, folder.path("repo/small/1/report.json"));
  EXPECT_THROW(read_version({.repository = options.repository, .tune = false}, "small", 1), Error);

  report.candidate.sha256 = "0";
  save_report(report, folder.path("repo/small/1/report.json"));
  EXPECT_EQ(read_version({.repository = options.repository, .tune = false}, "small", 1).proof, Proof::kMismatched);
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
  for (int i = 0; i < 20; ++i) server.load("m");
  stop = true;
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(bad, 0);
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace slipway
