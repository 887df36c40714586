#include "ship/publish.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "data/test_folder.h"
#include "model/onnx/external_testing.h"
#include "serve/repository.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

Graph graph_of(const std::string& name, float scale = 1) {
  Graph graph = scaling_graph(scale);
  graph.name = name;
  return graph;
}

VersionFiles files_of(const TestFolder& folder, const std::string& content) {
  VersionFiles files{.model = folder.path("in/" + content + ".onnx"),
                     .report = folder.write("in/" + content + ".json", "report " + content)};
  save_onnx(graph_of(content), files.model);
  return files;
}

/// A model whose graph is always the same, its weights in a file beside it.
VersionFiles external_files(const TestFolder& folder, float scale, const std::string& data = "weights/net.data") {
  VersionFiles files{.model = folder.path("in/net.onnx"), .report = folder.write("in/net.json", "report")};
  save_external(graph_of("net", scale), files.model, data);
  return files;
}

TEST(Publish, VersionsCountUpAndHoldTheirFiles) {
  TestFolder folder;
  const std::string repository = folder.path("repository");
  EXPECT_EQ(publish_version(repository, "net", files_of(folder, "one")).version, 1);
  EXPECT_EQ(publish_version(repository, "net", files_of(folder, "two")).version, 2);
  EXPECT_EQ(load_onnx(repository + "/net/2/model.onnx").name, "two");
  EXPECT_EQ(read_text_file(repository + "/net/2/report.json"), "report two");
  EXPECT_EQ(list_folder(repository + "/net"), (std::vector<std::string>{"1", "2"}));
}

TEST(Publish, TheSameBytesAreOneVersionWithTheLatestReport) {
  TestFolder folder;
  const std::string repository = folder.path("repository");
  VersionFiles files = files_of(folder, "one");
  publish_version(repository, "net", files);
  publish_version(repository, "net", files_of(folder, "two"));
  files.report = folder.write("in/newer.json", "newer");
  const Published again = publish_version(repository, "net", files);
  EXPECT_EQ(again.version, 1);
  EXPECT_TRUE(again.reused);
  EXPECT_EQ(read_text_file(repository + "/net/1/report.json"), "newer");
  EXPECT_EQ(list_folder(repository + "/net").size(), 2u);
}

TEST(Publish, DataFilesGoWithTheModelAndTellVersionsApart) {
  TestFolder folder;
  const std::string repository = folder.path("repository");
  const VersionFiles two = external_files(folder, 2);
  EXPECT_EQ(publish_version(repository, "net", two).version, 1);
  EXPECT_TRUE(publish_version(repository, "net", two).reused);
  EXPECT_EQ(publish_version(repository, "net", external_files(folder, 3)).version, 2);
  for (const int64_t version : {1, 2}) {
    const Graph g = load_onnx(version_folder(repository, "net", version) + "/model.onnx");
    EXPECT_EQ(g.constant(g.find("w"))->values<float>()[0], static_cast<float>(version + 1));
  }
  write_file(repository + "/net/1/weights/net.data", std::string_view("damaged"));
  EXPECT_EQ(publish_version(repository, "net", external_files(folder, 2)).version, 3);
}

TEST(Publish, DataWithTheNameOfAVersionsFileIsRefused) {
  TestFolder folder;
  for (const char* name : {"model.onnx", "model.plan", "report.json"}) {
    const VersionFiles files = external_files(folder, 2, name);
    EXPECT_NE(error_of([&] { publish_version(folder.path("repository"), "net", files); }).find("another name"),
              std::string::npos)
        << name;
    EXPECT_TRUE(list_folder(folder.path("repository/net")).empty()) << name;
  }
}

TEST(Publish, AFailureLeavesNothingBehind) {
  TestFolder folder;
  const std::string repository = folder.path("repository");
  for (VersionFiles files : {files_of(folder, "one"), external_files(folder, 2)}) {
    files.report = folder.path("missing.json");
    EXPECT_NE(error_of([&] { publish_version(repository, "net", files); }), "");
    EXPECT_TRUE(list_folder(repository + "/net").empty());
  }
}

TEST(Publish, LeftoversOfTheDeadAreRemovedOthersStay) {
  TestFolder folder;
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ::waitpid(dead, nullptr, 0);
  const std::string leftover = fmt::format("repository/net/1.tmp-{}", dead);
  folder.write(leftover + "/model.onnx", "half");
  folder.write("repository/net/1.tmp-1/model.onnx", "of someone alive");
  folder.write("repository/net/config.yaml", "threads: 1");
  EXPECT_EQ(publish_version(folder.path("repository"), "net", files_of(folder, "one")).version, 1);
  EXPECT_EQ(list_folder(folder.path("repository/net")), (std::vector<std::string>{"1", "1.tmp-1", "config.yaml"}));
}

TEST(Publish, TwoAtOnceGetDifferentNumbers) {
  TestFolder folder;
  const std::string repository = folder.path("repository");
  std::vector<pid_t> children;
  for (const char* name : {"one", "two", "three", "four"}) {
    const VersionFiles files = files_of(folder, name);
    const pid_t child = ::fork();
    if (child == 0) {
      publish_version(repository, "net", files);
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(list_folder(repository + "/net"), (std::vector<std::string>{"1", "2", "3", "4"}));
}

TEST(Publish, NamesThatAreNoFolderAreRefused) {
  TestFolder folder;
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "../x", "a b", "ä"})
    EXPECT_NE(error_of([&] { require_model_name(name); }).find("--name"), std::string::npos) << name;
  EXPECT_NO_THROW(require_model_name("Fashion-MNIST_v1.2"));
}

}  // namespace
}  // namespace slipway
