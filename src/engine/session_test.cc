// Sessions: no allocation once warm (counted in malloc itself), many at a time over one Plan, inputs that do not match.
#include "engine/session.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <thread>

#include "base/error.h"
#include "engine/engine_testing.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLIPWAY_COUNTS_MALLOC 0
#else
#define SLIPWAY_COUNTS_MALLOC 1
#endif

namespace {
thread_local bool g_counting = false;
thread_local int64_t g_blocks = 0, g_bytes = 0;
[[maybe_unused]] void count(size_t bytes) {
  if (!g_counting) return;
  ++g_blocks;
  g_bytes += static_cast<int64_t>(bytes);
}
}  // namespace

#if SLIPWAY_COUNTS_MALLOC
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) noexcept {
  count(bytes);
  return __libc_malloc(bytes);
}
void* calloc(size_t n, size_t bytes) noexcept {
  count(n * bytes);
  return __libc_calloc(n, bytes);
}
void* realloc(void* p, size_t bytes) noexcept {
  count(bytes);
  return __libc_realloc(p, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  count(bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** p, size_t alignment, size_t bytes) noexcept {
  count(bytes);
  *p = __libc_memalign(alignment, bytes);
  return *p == nullptr ? ENOMEM : 0;
}
}
#endif

namespace slipway {
namespace {

struct Buffers {
  explicit Buffers(const Plan& plan, uint64_t seed = 1) {
    Random random(seed);
    for (const PortInfo& port : plan.inputs()) inputs.push_back(random_tensor(port.dtype, port.dims, random));
    for (const PortInfo& port : plan.outputs()) outputs.emplace_back(port.dtype, port.dims);
    for (const Tensor& t : inputs) in.push_back(t.raw());
    for (Tensor& t : outputs) out.push_back(t.mutable_raw());
  }
  std::vector<Tensor> inputs, outputs;
  std::vector<const void*> in;
  std::vector<void*> out;
};

struct Allocations {
  int64_t blocks, bytes;
};

// Of `runs` runs after three to warm up.
Allocations allocations(const std::shared_ptr<const Plan>& plan, int runs) {
  Session session(plan);
  Buffers buffers(*plan);
  for (int i = 0; i < 3; ++i) session.run(buffers.in, buffers.out);
  g_blocks = g_bytes = 0;
  g_counting = true;
  for (int i = 0; i < runs; ++i) session.run(buffers.in, buffers.out);
  g_counting = false;
  return {g_blocks, g_bytes};
}

size_t onednn_steps(const Plan& plan) {
  size_t n = 0;
  for (const StepInfo& step : plan.steps()) {
    EXPECT_FALSE(step.tactic.starts_with("reference")) << step.name << " would allocate";
    n += step.tactic.starts_with("onednn");
  }
  return n;
}

TEST(Session, CountingSeesAllocations) {
  if (!SLIPWAY_COUNTS_MALLOC) GTEST_SKIP() << "a sanitizer owns malloc";
  g_blocks = 0;
  g_counting = true;
  const Tensor t(DType::kFloat32, {1000});
  g_counting = false;
  EXPECT_GE(g_blocks, 1) << t.bytes();
}

TEST(Session, AllocatesNothingOfOursOnceWarm) {
  if (!SLIPWAY_COUNTS_MALLOC) GTEST_SKIP() << "a sanitizer owns malloc";
  Random random(11);
  std::string images = residual_network_text(16, 12);  // up to the pools; then with the product and Softmax
  images.replace(images.find("output %y"), 9, "output %g");
  for (const std::string& text : {images, residual_network_text(16, 12)}) {
    const Graph graph = random_graph(text, random);
    const auto one = Plan::build(graph, {.batch = 1, .tune = false});
    const auto four = Plan::build(graph, {.batch = 4, .tune = false});
    const size_t primitives = onednn_steps(*one);
    ASSERT_GE(primitives, 4u);
    const Allocations ten = allocations(one, 10), hundred = allocations(one, 100), larger = allocations(four, 10);
    EXPECT_EQ(hundred.blocks, 10 * ten.blocks) << "grows with time";
    EXPECT_EQ(hundred.bytes, 10 * ten.bytes) << "grows with time";
    EXPECT_LE(ten.blocks, 10 * 16 * static_cast<int64_t>(primitives));
    if (text == images) {
      EXPECT_EQ(larger.blocks, ten.blocks) << "grows with the shape";
      EXPECT_EQ(larger.bytes, ten.bytes) << "grows with the shape";
    } else {  // oneDNN's matrix product takes one buffer a call to pack a panel, of a size that the cache bounds
      EXPECT_LE(larger.blocks, ten.blocks + 10);
      EXPECT_LE(larger.bytes, ten.bytes + 10 * (int64_t{4} << 20));
    }
    std::printf("%lld blocks a run for %zu oneDNN primitives\n", static_cast<long long>(ten.blocks / 10), primitives);
  }
}

TEST(Session, IntegerNetworksAllocateNothingAtAll) {
  if (!SLIPWAY_COUNTS_MALLOC) GTEST_SKIP() << "a sanitizer owns malloc";
  Random random(12);
  for (const IntegerNetwork& network : kIntegerNetworks) {
    const auto plan =
        Plan::build(random_graph(integer_network_text(network), random), {.batch = 2, .threads = 1, .tune = false});
    EXPECT_EQ(onednn_steps(*plan), 0u);
    const Allocations none = allocations(plan, 5);
    EXPECT_EQ(none.blocks, 0) << network.type << " " << network.channels << ": " << none.bytes << " bytes";
  }
}

TEST(Session, ManyOverOnePlanGiveTheSame) {
  Random random(13);
  for (const std::string& text : {residual_network_text(16, 10), integer_network_text(kIntegerNetworks[0])}) {
    const auto plan = Plan::build(random_graph(text, random), {.batch = 2, .threads = 1, .tune = false});
    std::vector<Buffers> expected;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      expected.emplace_back(*plan, seed);
      Session(plan).run(expected.back().in, expected.back().out);
    }
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        Session session(plan);
        for (uint64_t i = 0; i < 40; ++i) {
          const Buffers& want = expected[(t + i) % 4];
          Buffers mine(*plan, (t + i) % 4);
          session.run(mine.in, mine.out);
          for (size_t o = 0; o < mine.outputs.size(); ++o) wrong += !mine.outputs[o].identical(want.outputs[o]);
        }
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Session, RefusesInputsThatDoNotMatch) {
  Random random(14);
  const auto plan = Plan::build(random_graph(residual_network_text(8, 8), random), {.batch = 2, .tune = false});
  Session session(plan);
  const auto code_of = [&](const std::vector<Tensor>& inputs) {
    try {
      session.run(inputs);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of({}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of({Tensor(DType::kFloat32, {1, 3, 8, 8})}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of({Tensor(DType::kFloat32, {2, 3, 8})}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of({Tensor(DType::kUint8, {2, 3, 8, 8})}), ErrorCode::kInvalidArgument);
  const Tensor good(DType::kFloat32, {2, 3, 8, 8});
  EXPECT_EQ(code_of({good, good}), ErrorCode::kInvalidArgument);
  EXPECT_NO_THROW(session.run(std::vector<Tensor>{good}));
}

TEST(Session, ObserverSeesEveryValueAndChangesNothing) {
  Random random(15);
  const Graph graph = random_graph(residual_network_text(17, 9), random);
  const auto plan = Plan::build(graph, {.tune = false});
  const std::vector<Tensor> inputs = {random_tensor(DType::kFloat32, {1, 3, 9, 9}, random)};
  Session session(plan);
  const Tensor plain = session.run(inputs)[0];
  std::map<std::string, Tensor> seen, expected;
  const Tensor observed =
      session.run_observed(inputs, [&](const std::string& name, const Tensor& t) { seen[name] = t; })[0];
  EXPECT_TRUE(observed.identical(plain));
  evaluate(graph, inputs, [&](ValueId id, const Tensor& t) { expected[graph.value(id).name] = t; });
  int compared = 0;
  for (const auto& [name, tensor] : seen)
    if (const auto it = expected.find(name); it != expected.end()) {
      EXPECT_EQ(difference(tensor, it->second), "") << name;
      ++compared;
    }
  EXPECT_GE(compared, 6);
}

}  // namespace
}  // namespace slipway
