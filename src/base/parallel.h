#pragma once
#include <algorithm>
#include <cstdint>

#ifdef SLIPWAY_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace slipway {

/// Calls body(begin, end) on up to `threads` disjoint, near-equal ranges that cover [0, count), each at least
/// `grain` long; returns when all are done. The split depends on the arguments alone. The body must not throw.
/// OpenMP carries it (oneDNN's own threads); std::thread where SLIPWAY_STD_THREADS is set.
template <typename Body>
void parallel_for(int64_t count, int threads, const Body& body, int64_t grain = 1) {
  const int64_t parts = std::min<int64_t>(threads, count / std::max<int64_t>(grain, 1));
  if (parts <= 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
#ifdef SLIPWAY_STD_THREADS
  std::vector<std::thread> workers;
  for (int64_t p = 1; p < parts; ++p)
    workers.emplace_back([&, p] { body(count * p / parts, count * (p + 1) / parts); });
  body(int64_t{0}, count / parts);
  for (auto& worker : workers) worker.join();
#else
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static, 1)
  for (int64_t p = 0; p < parts; ++p) body(count * p / parts, count * (p + 1) / parts);
#endif
}

/// Threads that libraries (oneDNN) use when called from this thread.
void set_thread_count(int threads);

}  // namespace slipway
