#include "base/interrupt.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

namespace slipway {
namespace {

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// As a kernel does that has the stack pointer walk over its data: what lies below it must stay as it is.
TEST(Interrupt, ASignalWritesNothingWhereTheStackPointerPoints) {
  catch_hangups();
  std::vector<unsigned char> data(64 * 1024, 7);
  void* const end = data.data() + data.size() - 256;
  long result = SYS_kill;
  asm volatile(
      "mov %%rsp, %%r12\n"
      "mov %[end], %%rsp\n"
      "syscall\n"
      "mov %%r12, %%rsp\n"
      : "+a"(result)
      : [end] "r"(end), "D"(static_cast<long>(getpid())), "S"(static_cast<long>(SIGHUP))
      : "r12", "rcx", "r11", "memory");
  EXPECT_EQ(result, 0);
  EXPECT_TRUE(hangup_came());
  EXPECT_FALSE(hangup_came());
  EXPECT_EQ(std::count(data.begin(), data.end(), 7), static_cast<std::ptrdiff_t>(data.size()));
}
#endif

}  // namespace
}  // namespace slipway
