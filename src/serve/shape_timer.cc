// Timing in the background. Shapes that come with requests are prepared at first sight, with candidates ranked by what
// others took. Timing costs some seconds of one processor, so it waits until a combination of shapes was computed at
// for about as long: what costs less gains less. It is done by a process of low priority, and the version's program
// takes the plans over between two runs.
#include "serve/shape_timer.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>

#include "base/log.h"
#include "serve/prepare.h"

namespace slipway {
namespace {

constexpr auto kLookInterval = std::chrono::seconds(1);
constexpr size_t kAtOnce = 8;

}  // namespace

std::vector<std::vector<Dims>> shapes_worth_timing(const Program& program, double seconds) {
  std::vector<PreparedShape> shapes = program.prepared();
  std::erase_if(shapes, [&](const PreparedShape& shape) {
    return shape.from_file || shape.plans.empty() || static_cast<double>(shape.run_ns) < seconds * 1e9;
  });
  std::sort(shapes.begin(), shapes.end(), [](const auto& a, const auto& b) { return a.run_ns > b.run_ns; });
  std::vector<std::vector<Dims>> worth;
  for (size_t i = 0; i < std::min(shapes.size(), kAtOnce); ++i) worth.push_back(std::move(shapes[i].inputs));
  return worth;
}

ShapeTimer::ShapeTimer(const ServerOptions& options, Versions versions)
    : options_(options), versions_(std::move(versions)), thread_([this] { run(); }) {}

ShapeTimer::~ShapeTimer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool ShapeTimer::stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

void ShapeTimer::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kLookInterval, [&] { return stopping_; })) {
    lock.unlock();
    try {
      look();
    } catch (const std::bad_alloc&) {  // later, perhaps
    }
    lock.lock();
  }
}

void ShapeTimer::look() {
  for (const std::shared_ptr<ModelVersion>& version : versions_()) {
    const auto& program = version->source().program;
    if (program == nullptr || refused_.contains(version->generation())) continue;
    const auto shapes = shapes_worth_timing(*program, options_.time_after_seconds);
    if (shapes.empty()) continue;
    const auto in_service = [&] {
      const auto all = versions_();
      return !stopping() && std::find(all.begin(), all.end(), version) != all.end();
    };
    try {
      time_shapes(options_, *version, shapes, in_service);
      log_info("{}/{}: the candidates for {} combination{} of shapes were timed", version->model(), version->version(),
               shapes.size(), shapes.size() == 1 ? "" : "s");
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      if (!in_service()) continue;
      refused_.insert(version->generation());
      log_warning("{}/{}: its shapes stay untimed: {}", version->model(), version->version(), error.what());
    }
  }
}

}  // namespace slipway
