#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "engine/plan.h"
#include "model/tensor.h"

namespace slipway {

/// Memory for activations that the sessions of one thread share, as large as the largest of them needs.
class Arena {
 public:
  /// Makes room; what was there is lost when it moves.
  void reserve(size_t bytes);
  std::byte* data() const { return data_.get(); }

 private:
  AlignedBytes data_;
  size_t bytes_ = 0;
};

/// Runs a Plan. One thread at a time; many Sessions may share one Plan. After the first run our code allocates nothing.
class Session {
 public:
  /// `arena`: shared with sessions that never run at the same time; null: it has its own.
  explicit Session(std::shared_ptr<const Plan> plan, std::shared_ptr<Arena> arena = nullptr);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  const Plan& plan() const;
  /// Buffers in the order and size of plan().inputs() and outputs(): dense, row-major, any alignment.
  void run(std::span<const void* const> inputs, std::span<void* const> outputs);
  /// Tensors of exactly the Plan's shapes; fails with kInvalidArgument otherwise.
  std::vector<Tensor> run(std::span<const Tensor> inputs);

  /// Called after each step with the value that it made, converted to plain row-major; `name` is the name of the value
  /// in the optimised graph. Slow; the choices of the plan stay as they are.
  using Observer = std::function<void(const std::string& name, const Tensor& value)>;
  std::vector<Tensor> run_observed(std::span<const Tensor> inputs, const Observer& observe);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
