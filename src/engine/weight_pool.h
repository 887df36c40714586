#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "engine/lower/lower.h"

namespace slipway {

/// Packed weights of the plans of a program: what is equal byte by byte is kept once, as long as a plan uses it.
class WeightPool {
 public:
  /// Replaces the blob's bytes by equal ones that are there already, else keeps them for the next.
  void share(Blob& blob);

 private:
  struct Entry {
    std::weak_ptr<const std::byte[]> data;
    size_t bytes;
  };
  std::mutex mutex_;
  std::unordered_multimap<uint64_t, Entry> entries_;  ///< by a hash of samples
};

}  // namespace slipway
