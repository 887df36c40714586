// Dynamic batching without threads or clocks, so that it is tested on simulated time.
#include "serve/batch_queue.h"

#include <algorithm>
#include <iterator>

namespace slipway {

bool BatchQueue::push(PendingPtr pending) {
  if (size() >= options_.max_queue) return false;
  const int64_t rows = pending->rows;
  waiting_.push_back(std::move(pending));
  rows_ += rows;
  return true;
}

int64_t BatchQueue::due_ns() const {
  if (waiting_.empty()) return kNever;
  return full_batch() ? waiting_.front()->queued_ns : waiting_.front()->queued_ns + options_.delay_us * 1000;
}

BatchQueue::Batch BatchQueue::take(int64_t now_ns) {
  Batch batch;
  if (waiting_.empty() || due_ns() > now_ns) return batch;
  batch.reason = full_batch() ? CloseReason::kSize : options_.delay_us > 0 ? CloseReason::kDelay : CloseReason::kIdle;
  const std::vector<int64_t> shape = waiting_.front()->shape;
  size_t count = 0;
  for (const PendingPtr& pending : waiting_) {
    if (pending->shape != shape) continue;
    if (count > 0 && batch.rows + pending->rows > options_.max_rows) break;
    batch.rows += pending->rows;
    ++count;
  }
  batch.requests.reserve(count);
  std::erase_if(waiting_, [&](PendingPtr& pending) {
    if (batch.requests.size() == count || pending->shape != shape) return false;
    batch.requests.push_back(std::move(pending));
    return true;
  });
  rows_ -= batch.rows;
  return batch;
}

std::vector<PendingPtr> BatchQueue::take_expired(int64_t now_ns) {
  const auto is_late = [&](const PendingPtr& pending) {
    return pending->request.deadline_ns != 0 && pending->request.deadline_ns <= now_ns;
  };
  std::vector<PendingPtr> expired;
  std::copy_if(waiting_.begin(), waiting_.end(), std::back_inserter(expired), is_late);
  for (const PendingPtr& pending : expired) rows_ -= pending->rows;
  if (!expired.empty()) std::erase_if(waiting_, is_late);
  return expired;
}

int64_t BatchQueue::next_deadline_ns() const {
  int64_t next = kNever;
  for (const PendingPtr& pending : waiting_)
    if (pending->request.deadline_ns != 0) next = std::min(next, pending->request.deadline_ns);
  return next;
}

std::vector<int64_t> cover_rows(int64_t rows, const std::map<int64_t, double>& time_us) {
  const int64_t largest = time_us.rbegin()->first;
  std::vector<int64_t> cover(static_cast<size_t>(std::max<int64_t>(rows / largest - 1, 0)), largest);
  const int64_t rest = rows - static_cast<int64_t>(cover.size()) * largest;
  std::vector<double> cost(static_cast<size_t>(rest) + 1, 0);
  std::vector<int64_t> choice(cost.size(), 0);
  for (int64_t n = 1; n <= rest; ++n) {
    double best = std::numeric_limits<double>::infinity();
    for (const auto& [size, time] : time_us) {
      const double total = time + cost[static_cast<size_t>(std::max<int64_t>(n - size, 0))];
      if (total >= best) continue;
      best = total;
      choice[static_cast<size_t>(n)] = size;
    }
    cost[static_cast<size_t>(n)] = best;
  }
  // The padded size, if there is one, goes last: it was chosen for the smallest remainder.
  for (int64_t n = rest; n > 0; n -= choice[static_cast<size_t>(n)]) cover.push_back(choice[static_cast<size_t>(n)]);
  return cover;
}

}  // namespace slipway
