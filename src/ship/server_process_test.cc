#include "ship/server_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/test_folder.h"

namespace slipway {
namespace {

/// A program that behaves as a test's shell script says, in place of slipway.
ServeCommand fake(const TestFolder& folder, const std::string& script) {
  const std::string program = folder.write("program", "#!/bin/bash\n" + script);
  ::chmod(program.c_str(), 0755);
  return {.program = program, .repository = folder.path(), .log_path = folder.path("log"), .timeout_seconds = 20};
}

constexpr const char* kServes =
    "echo \"$@\" > $2/arguments\necho '{\"half\": 1}'\n"
    "echo '{\"pid\": 1, \"http_port\": 8123, \"grpc_port\": 8124, \"admin_port\": 8125}'\n"
    "trap 'touch $2/drained; exit 0' TERM\nwhile :; do sleep 0.05; done\n";

TEST(ServerProcess, AChildListensAndIsDrainedAtTheEnd) {
  TestFolder folder;
  pid_t pid = 0;
  {
    const ServerChild child(fake(folder, kServes));
    pid = child.server().pid;
    EXPECT_EQ(child.server().http_url(), "http://127.0.0.1:8123");
    EXPECT_EQ(child.server().admin_url(), "http://127.0.0.1:8125");
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_NE(::kill(pid, 0), 0);
  EXPECT_TRUE(file_exists(folder.path("drained")));
  const std::string arguments = read_text_file(folder.path("arguments"));
  for (const char* part : {"serve", "--json", "--http-port 0", "--grpc-port 0", "--admin-port 0"})
    EXPECT_NE(arguments.find(part), std::string::npos) << arguments;
}

TEST(ServerProcess, OneThatEndsEarlySaysWhy) {
  TestFolder folder;
  const std::string text =
      error_of([&] { const ServerChild child(fake(folder, "echo 'port 8000 is in use' >&2; exit 2\n")); });
  EXPECT_NE(text.find("port 8000 is in use"), std::string::npos) << text;
  EXPECT_NE(
      error_of([&] { const ServerChild child(ServeCommand{.program = "/nowhere", .log_path = folder.path("l")}); }),
      "");
}

TEST(ServerProcess, OneThatNeverListensIsEnded) {
  TestFolder folder;
  ServeCommand command = fake(folder, "echo $$ > $2/pid\nexec sleep 60\n");
  command.timeout_seconds = 0.5;
  EXPECT_NE(error_of([&] { const ServerChild child(command); }).find("not up within"), std::string::npos);
  EXPECT_NE(::kill(std::stoi(read_text_file(folder.path("pid"))), 0), 0);
}

TEST(ServerProcess, ADetachedOneIsFoundByItsRepositoryUntilItIsGone) {
  TestFolder folder;
  EXPECT_FALSE(find_server(folder.path()));
  const RunningServer server = start_detached(fake(folder, kServes));
  EXPECT_NE(::getsid(server.pid), ::getsid(0));
  const auto says = [&](pid_t pid) {
    folder.write(".slipway/server.json",
                 fmt::format(R"({{"pid": {}, "host": "0.0.0.0", "http_port": 1, "admin_port": 2}})", pid));
  };
  says(server.pid);
  ASSERT_TRUE(find_server(folder.path()));
  EXPECT_EQ(find_server(folder.path())->http_url(), "http://127.0.0.1:1");
  EXPECT_TRUE(stop_server(server.pid));
  EXPECT_FALSE(find_server(folder.path()));
  EXPECT_FALSE(stop_server(server.pid));
  for (const char* text : {"", "[]", "{}", R"({"pid": -1, "http_port": 1, "admin_port": 2})",
                           R"({"pid": 1, "http_port": 70000, "admin_port": 2})"}) {
    folder.write(".slipway/server.json", text);
    EXPECT_FALSE(find_server(folder.path())) << text;
  }
}

}  // namespace
}  // namespace slipway
