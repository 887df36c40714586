#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "base/memory.h"

namespace slipway {

/// Test memory that ends at a page that must not be touched and begins after one; a read or write outside it crashes
/// (up to the alignment: bytes are rounded up to it, so give 1 for operands and 64 for scratch).
class Guarded {
 public:
  explicit Guarded(size_t bytes, size_t alignment = 1) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = round_up(bytes, page);
    mapped_ = usable + 2 * page;
    base_ = static_cast<uint8_t*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SLIPWAY_CHECK(base_ != MAP_FAILED);
    mprotect(base_, page, PROT_NONE);
    mprotect(base_ + page + usable, page, PROT_NONE);
    data_ = base_ + page + usable - round_up(bytes, alignment);
  }
  ~Guarded() { munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  uint8_t* data() { return data_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }

 private:
  uint8_t* base_;
  uint8_t* data_;
  size_t mapped_;
};

}  // namespace slipway
