// Each allocation of a request fails once, in turn: it costs that request, at most, and the next one goes well. Not
// under AddressSanitizer or ThreadSanitizer, which have allocators of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "data/test_folder.h"
#include "model/onnx/onnx.h"
#include "serve/grpc/grpc_testing.h"
#include "serve/http/http_plane.h"
#include "serve/http/http_testing.h"
#include "serve/repository.h"

namespace {

std::atomic<int64_t> allocations_left{-1};  ///< until the one that fails; negative: none does
std::atomic<bool> computing_threads_only{false};
std::atomic<size_t> least_bytes{0};                  ///< smaller ones go well and are not counted
thread_local bool spared = false, computes = false;  ///< a thread of the test's own; one that has told an observer

/// While it lives, the n-th allocation of so many bytes fails, of all threads but the test's, or of the computing ones
/// alone.
class FailNth {
 public:
  explicit FailNth(int64_t n, bool computing_only = false, size_t bytes = 0) {
    spared = true;
    least_bytes = bytes;
    computing_threads_only = computing_only;
    allocations_left = n;
  }
  ~FailNth() { end(); }
  /// Ends it. Whether an allocation failed.
  bool end() {
    if (!std::exchange(ended_, true)) failed_ = allocations_left.exchange(-1) < 0;
    return failed_;
  }
  FailNth(const FailNth&) = delete;
  FailNth& operator=(const FailNth&) = delete;

 private:
  bool ended_ = false, failed_ = false;
};

void* allocate_or_fail(std::size_t bytes) {
  if (!spared && (computes || !computing_threads_only) && bytes >= least_bytes &&
      allocations_left.load(std::memory_order_relaxed) > 0 && allocations_left.fetch_sub(1) == 1) {
    allocations_left = -1;
    throw std::bad_alloc();
  }
  void* p = std::malloc(bytes == 0 ? 1 : bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// Not inlined: the compiler takes malloc and free inside for a mismatch with the other side.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return allocate_or_fail(bytes); }
[[gnu::noinline]] void* operator new[](std::size_t bytes) { return allocate_or_fail(bytes); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace slipway {
namespace {

constexpr int64_t kMostAllocations = 400;
const Tensor kOne = Tensor::of<float>({1, 4}, {1, 2, 3, 4});

/// Calls ask(fault) with the n-th allocation failing until a whole request goes by without; how many failed.
template <typename Ask>
int64_t fail_each(const Ask& ask) {
  int64_t n = 1;
  for (bool failed = true; failed && n < kMostAllocations; ++n) {
    FailNth fault(n);
    ask(fault);
    failed = fault.end();
  }
  return n;
}

TEST(AllocationFaults, CostTheRequestAndNoThread) {
  ModelConfig config;
  config.timeout_ms = 60'000;
  auto server = make_server({make_version(scaling_graph(2), "a model with a long name", 1, config)});
  int64_t thrown = 0, answered_so = 0;
  const int64_t tried = fail_each([&](FailNth&) {
    Answer answer;
    InferRequest request = request_of(kOne, "an identifier that is long");
    const Target target = server->target("", "", "");
    spared = false;  // submitting is part of it
    try {
      server->infer(target, std::move(request), answer.done());
    } catch (const std::bad_alloc&) {
      spared = true;
      ++thrown;
      EXPECT_EQ(answer.count(), 0);
      return;
    }
    spared = true;
    const InferResponse& r = answer.wait();
    if (r.error) {
      EXPECT_EQ(*r.error, ErrorCode::kOutOfMemory) << r.message;
      ++answered_so;
    }
  });
  EXPECT_LT(tried, kMostAllocations);
  EXPECT_GT(thrown, 0);
  EXPECT_GT(answered_so, 0);
  EXPECT_TRUE(server->drain(10'000)) << "a request was lost";
  const VariantSnapshot counted = snapshot(server->versions("")[0]->metrics().variants[0]);
  EXPECT_EQ(counted.faults(), answered_so);
}

TEST(AllocationFaults, OverHttpEndTheRequestOrItsConnection) {
  auto server = make_server({make_version(scaling_graph(2))});
  HttpPlane http(*server, {.port = 0});
  http.start();
  const std::string body = R"({"id":"i","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]})";
  int64_t refused = 0;
  const int64_t tried = fail_each([&](FailNth& fault) {
    TestClient client(http.port());
    const TestResponse r = client.post("/v2/models/m/infer", body);
    EXPECT_TRUE(r.status == 200 || r.status == 503 || r.status == 0) << r.status << r.body;
    refused += r.status == 503;
    fault.end();
    EXPECT_EQ(TestClient(http.port()).post("/v2/models/m/infer", body).status, 200);
  });
  EXPECT_LT(tried, kMostAllocations);
  EXPECT_GT(refused, 0);
  http.drain();
  EXPECT_TRUE(http.finish(now_ns() + 10'000'000'000)) << "a connection was lost";
  http.stop();
  EXPECT_EQ(server->in_flight(), 0);
}

// In the server itself: a version is prepared in a process of its own, whose end is a refusal. Small allocations are
// spared: nlohmann::json allocates in its destructors, which may not fail.
TEST(AllocationFaults, CostTheLoadAndLeaveWhatWasThere) {
  const std::string program = slipway_program();
  if (program.empty()) GTEST_SKIP() << "the program is not built";
  const TestFolder folder;
  const std::string one = version_folder(folder.path("repo"), "m", 1),
                    two = version_folder(folder.path("repo"), "m", 2);
  for (const std::string& version : {one, two}) make_folders(version);
  save_onnx(scaling_graph(2), onnx_path(one));
  save_onnx(scaling_graph(3), onnx_path(two));
  Server server(
      {.repository = folder.path("repo"), .program = program, .cache_dir = folder.path("cache"), .tune = false});
  server.load("m", 1);
  server.route("m", {.stable = 1});
  int64_t refused = 0;
  bool failed = true;
  for (int64_t n = 1; failed; ++n) {
    FailNth fault(n, false, 4096);
    spared = false;
    std::optional<ErrorCode> why;
    try {
      server.load("m", 2);
    } catch (const Error& error) {
      why = error.code();
    } catch (const std::bad_alloc&) {
      why = ErrorCode::kOutOfMemory;
    }
    spared = true;
    failed = fault.end();
    for (const IndexEntry& entry : server.index()) EXPECT_NE(entry.state, "LOADING") << n;
    if (why) {
      EXPECT_TRUE(failed && (*why == ErrorCode::kOutOfMemory || *why == ErrorCode::kUnsupported)) << to_string(*why);
      ++refused;
      EXPECT_FALSE(infer_and_wait(server, request_of(kOne)).error);
      server.load("m", 2);
    }
    EXPECT_EQ(server.versions("m").size(), 2u);
    server.unload("m", 2);
  }
  EXPECT_GT(refused, 3);
}

using GrpcFaultTest = GrpcPlaneTest;

TEST_F(GrpcFaultTest, AreExhaustedResources) {
  auto server = make_server({make_version(scaling_graph(2))});
  server->observe([](const Served&) { computes = true; });
  serve(std::move(server));
  expect_answers();
  int exhausted = 0;
  for (int64_t n = 1; n < 6; ++n) {
    FailNth fault(n, true);
    inference::ModelInferResponse response;
    const grpc::Status status = infer(scaling_request(1), response);
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    exhausted += !status.ok();
    fault.end();
    expect_answers();
  }
  EXPECT_GT(exhausted, 0);
}

}  // namespace
}  // namespace slipway

#endif
