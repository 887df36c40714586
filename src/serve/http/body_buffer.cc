// Memory of request bodies. A connection keeps one buffer from request to request: it is free again when its reference
// count is back to one, which an acquire fence orders after the last reader's release.
#include "serve/http/body_buffer.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "serve/json/infer_codec.h"

namespace slipway {

namespace {

std::shared_ptr<std::byte[]> allocate(size_t capacity) {
  const size_t bytes = (capacity + kBodyPadding + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, bytes);
  if (!memory) throw std::bad_alloc();
  return {static_cast<std::byte*>(memory), [](std::byte* p) { std::free(p); }};
}

}  // namespace

void BodyBuffer::start(size_t wanted) {
  const bool ours = bytes && bytes.use_count() == 1;
  std::atomic_thread_fence(std::memory_order_acquire);
  if (!ours || capacity < wanted) {
    bytes = allocate(wanted);
    capacity = wanted;
  }
  size = 0;
  std::memset(bytes.get() + wanted, 0, kBodyPadding);
}

void BodyBuffer::append(std::span<const std::byte> more) {
  if (size + more.size() > capacity) {
    const size_t grown = std::max({capacity * 2, size + more.size(), size_t{4096}});
    std::shared_ptr<std::byte[]> larger = allocate(grown);
    if (size) std::memcpy(larger.get(), bytes.get(), size);
    bytes = std::move(larger);
    capacity = grown;
  }
  if (!more.empty()) std::memcpy(bytes.get() + size, more.data(), more.size());
  size += more.size();
  std::memset(bytes.get() + size, 0, kBodyPadding);
}

}  // namespace slipway
