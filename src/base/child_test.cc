#include "base/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

namespace slipway {
namespace {

ChildProgram shell(const std::string& script) { return {.program = "/bin/bash", .arguments = {"bash", "-c", script}}; }

struct Failure {
  ErrorCode code = ErrorCode::kInternal;
  std::string text;
};

Failure failure_of(const ChildProgram& program, const ChildLimits& limits = {}, std::string_view input = "") {
  try {
    run_child(program, input, limits, "The child");
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

TEST(Child, AnswersWhatItIsAsked) {
  EXPECT_EQ(run_child(shell("cat; echo $MORE"), "question ", {}, "It"), "question \n");
  const std::string much(3 << 20, 'x');  // more than any pipe takes: it is read while it is written
  EXPECT_EQ(run_child(shell("cat"), much, {}, "It"), much);
  ::setenv("CHILD_TEST_SECRET", "1", 1);
  ChildProgram program = shell("echo $MORE$CHILD_TEST_SECRET");
  program.environment = {"MORE=more"};
  EXPECT_EQ(run_child(program, "", {}, "It"), "more1\n");
  program.hidden = "CHILD_TEST_SECRET";
  EXPECT_EQ(run_child(program, "", {}, "It"), "more\n");
}

TEST(Child, ItsDeathIsNamed) {
  const Failure crash = failure_of(shell("kill -SEGV $$"));
  EXPECT_EQ(crash.code, ErrorCode::kUnsupported);
  EXPECT_NE(crash.text.find("The child died: signal 11"), std::string::npos) << crash.text;
  EXPECT_NE(failure_of(shell("exit 3")).text.find("status 3"), std::string::npos);
  EXPECT_NE(failure_of(shell("kill -KILL $$")).text.find("lack of memory"), std::string::npos);
  EXPECT_NE(failure_of({.program = "/nowhere", .arguments = {"x"}}).text.find("status 127"), std::string::npos);
  EXPECT_NE(failure_of(shell("exit 2"), {}, std::string(3 << 20, 'x')).text.find("status 2"), std::string::npos);
}

TEST(Child, OneThatHangsIsKilledWithWhatItStarted) {
  for (const char* script :
       {"sleep 1000 & echo $! >&3; sleep 1000", "exec >&-; sleep 1000 & echo $! >&3; sleep 1000"}) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ChildProgram program = shell(std::string("exec 3>&2 2>/dev/null; ") + script);
    program.errors = ends[1];
    const Failure late = failure_of(program, {.seconds = 0.5});
    EXPECT_EQ(late.code, ErrorCode::kDeadline);
    EXPECT_NE(late.text.find("not done within 0.5 s"), std::string::npos) << late.text;
    ::close(ends[1]);
    char number[32] = {};
    ASSERT_GT(::read(ends[0], number, sizeof number - 1), 0);
    char more = 0;
    EXPECT_EQ(::read(ends[0], &more, 1), 0) << "its own child is gone too, for nobody holds the pipe";
    ::close(ends[0]);
  }
}

TEST(Child, IsStoppedWhenNobodyWantsItAnyMore) {
  int asked = 0;
  const Failure stopped = failure_of(shell("sleep 1000"), {.keep_going = [&] { return ++asked < 3; }});
  EXPECT_EQ(stopped.code, ErrorCode::kInterrupted);
  EXPECT_EQ(asked, 3);
}

TEST(Child, OfEndlessOutputNoMoreIsKeptThanAllowed) {
  EXPECT_NE(failure_of(shell("yes"), {.max_output_bytes = 1 << 20}).text.find("said too much"), std::string::npos);
}

}  // namespace
}  // namespace slipway
