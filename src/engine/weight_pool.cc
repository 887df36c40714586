// Finds equal blobs by a hash of a few samples, then compares all bytes.
#include "engine/weight_pool.h"

#include <cstring>
#include <string_view>

namespace slipway {
namespace {

uint64_t sampled_hash(const std::byte* data, size_t bytes) {
  constexpr size_t kSamples = 64, kSampleBytes = 32;
  uint64_t hash = bytes;
  const size_t step = bytes / kSamples + 1;
  for (size_t at = 0; at < bytes; at += step) {
    const std::string_view sample(reinterpret_cast<const char*>(data) + at, std::min(kSampleBytes, bytes - at));
    hash = hash * 0x9E3779B97F4A7C15u + std::hash<std::string_view>()(sample);
  }
  return hash;
}

}  // namespace

void WeightPool::share(Blob& blob) {
  if (blob.bytes == 0) return;
  const uint64_t hash = sampled_hash(blob.data.get(), blob.bytes);
  const std::lock_guard lock(mutex_);
  const auto [begin, end] = entries_.equal_range(hash);
  for (auto it = begin; it != end;) {
    const std::shared_ptr<const std::byte[]> known = it->second.data.lock();
    if (known == nullptr) {
      it = entries_.erase(it);
      continue;
    }
    if (it->second.bytes == blob.bytes &&
        (known == blob.data || std::memcmp(known.get(), blob.data.get(), blob.bytes) == 0)) {
      blob.data = known;
      return;
    }
    ++it;
  }
  entries_.emplace(hash, Entry{blob.data, blob.bytes});
}

}  // namespace slipway
