#include "serve/batch_queue.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/random.h"

namespace slipway {
namespace {

PendingPtr pending(int64_t rows, int64_t queued_ns, int64_t deadline_ns = 0) {
  auto p = std::make_shared<PendingRequest>();
  p->rows = rows;
  p->queued_ns = queued_ns;
  p->request.deadline_ns = deadline_ns;
  return p;
}

TEST(BatchQueue, WithoutDelayAnIdleInstanceTakesWhatIsThere) {
  BatchQueue queue({.max_rows = 4, .delay_us = 0, .max_queue = 10});
  EXPECT_TRUE(queue.take(100).requests.empty());
  EXPECT_EQ(queue.due_ns(), BatchQueue::kNever);
  for (int i = 0; i < 6; ++i) queue.push(pending(1, 100));
  const auto first = queue.take(100), second = queue.take(100);
  EXPECT_EQ(first.requests.size(), 4u);
  EXPECT_EQ(first.reason, CloseReason::kSize);
  EXPECT_EQ(second.requests.size(), 2u);
  EXPECT_EQ(second.reason, CloseReason::kIdle);
  EXPECT_EQ(queue.rows(), 0);
}

TEST(BatchQueue, DelayCountsFromTheOldestAndAFullBatchDoesNotWait) {
  BatchQueue queue({.max_rows = 3, .delay_us = 5, .max_queue = 10});
  queue.push(pending(1, 1000));
  queue.push(pending(1, 4000));
  EXPECT_TRUE(queue.take(5999).requests.empty());
  EXPECT_EQ(queue.due_ns(), 6000);
  const auto late = queue.take(6000);
  EXPECT_EQ(late.requests.size(), 2u);
  EXPECT_EQ(late.reason, CloseReason::kDelay);
  for (int i = 0; i < 3; ++i) queue.push(pending(1, 7000));
  EXPECT_EQ(queue.take(7000).reason, CloseReason::kSize);
}

TEST(BatchQueue, IsBoundedAndALargeRequestGoesAlone) {
  BatchQueue queue({.max_rows = 4, .delay_us = 0, .max_queue = 2});
  EXPECT_TRUE(queue.push(pending(9, 0)));
  EXPECT_TRUE(queue.push(pending(1, 0)));
  EXPECT_FALSE(queue.push(pending(1, 0)));
  EXPECT_EQ(queue.take(0).rows, 9);
  EXPECT_EQ(queue.take(0).rows, 1);
}

TEST(BatchQueue, ExpiredRequestsLeave) {
  BatchQueue queue({.max_rows = 4, .delay_us = 0, .max_queue = 9});
  queue.push(pending(1, 0, 50));
  queue.push(pending(2, 0));
  queue.push(pending(1, 0, 20));
  EXPECT_EQ(queue.next_deadline_ns(), 20);
  EXPECT_EQ(queue.take_expired(19).size(), 0u);
  EXPECT_EQ(queue.take_expired(20).size(), 1u);
  EXPECT_EQ(queue.next_deadline_ns(), 50);
  EXPECT_EQ(queue.rows(), 3);
}

// Any arrivals: every request leaves exactly once, in order, no batch is too large, none waits beyond delay + one look.
TEST(BatchQueue, SimulatedArrivals) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const BatchingOptions options{.max_rows = 1 + static_cast<int64_t>(random.below(9)),
                                  .delay_us = static_cast<int64_t>(random.below(3)) * 7,
                                  .max_queue = 1 + static_cast<int64_t>(random.below(20))};
    BatchQueue queue(options);
    std::vector<PendingPtr> accepted;
    size_t left = 0;
    for (int64_t now = 0; now < 200'000; now += 500) {
      for (uint64_t n = random.below(3); n > 0; --n) {
        auto p = pending(1 + static_cast<int64_t>(random.below(4)), now);
        if (queue.push(p)) accepted.push_back(p);
      }
      if (random.below(2) == 0) continue;  // no instance is idle
      const auto batch = queue.take(now);
      for (const PendingPtr& p : batch.requests) ASSERT_EQ(p, accepted[left++]) << "seed " << seed;
      if (batch.requests.size() > 1) {
        ASSERT_LE(batch.rows, options.max_rows);
      }
      if (batch.requests.empty() && queue.size() > 0) {
        ASSERT_LT(now - accepted[left]->queued_ns, options.delay_us * 1000) << "seed " << seed;
      }
    }
    ASSERT_EQ(queue.size(), static_cast<int64_t>(accepted.size() - left));
  }
}

TEST(CoverRows, CheapestSumThatReachesTheRows) {
  const std::map<int64_t, double> time_us = {{1, 10}, {4, 20}, {16, 60}};
  EXPECT_EQ(cover_rows(1, time_us), (std::vector<int64_t>{1}));
  EXPECT_EQ(cover_rows(3, time_us), (std::vector<int64_t>{4}));
  EXPECT_EQ(cover_rows(4, time_us), (std::vector<int64_t>{4}));
  EXPECT_EQ(cover_rows(16, time_us), (std::vector<int64_t>{16}));
  const auto large = cover_rows(100, time_us);
  EXPECT_GE(std::accumulate(large.begin(), large.end(), int64_t{0}), 100);
  const auto last = large.back();
  EXPECT_LT(std::accumulate(large.begin(), large.end(), int64_t{0}) - last, 100);
  EXPECT_EQ(cover_rows(7, {{1, 10}}).size(), 7u);
  EXPECT_EQ(cover_rows(2, {{3, 10}}), (std::vector<int64_t>{3}));
}

}  // namespace
}  // namespace slipway
