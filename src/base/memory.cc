#include "base/memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace slipway {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

uint64_t status_kilobytes(const char* key) {
  std::FILE* file = std::fopen("/proc/self/status", "re");
  if (file == nullptr) return 0;
  char line[256];
  unsigned long value = 0;
  while (std::fgets(line, sizeof line, file) != nullptr)
    if (std::strncmp(line, key, std::strlen(key)) == 0) {
      value = std::strtoul(line + std::strlen(key), nullptr, 10);
      break;
    }
  std::fclose(file);
  return value;
}

AlignedBytes allocate(size_t bytes, size_t alignment) {
  const size_t padded = round_up(bytes == 0 ? 1 : bytes, alignment);
  auto* p = static_cast<std::byte*>(padded < bytes ? nullptr : std::aligned_alloc(alignment, padded));
  if (p == nullptr)
    fail(ErrorCode::kOutOfMemory, "There is not enough memory; use a smaller batch or model ({} bytes asked)", bytes);
  return AlignedBytes(p);
}

}  // namespace

void AlignedFree::operator()(std::byte* p) const noexcept { std::free(p); }

AlignedBytes allocate_aligned(size_t bytes) { return allocate(bytes, kAlignment); }

AlignedBytes allocate_large(size_t bytes) {
  if (bytes < kHugePageBytes) return allocate_aligned(bytes);
  AlignedBytes p = allocate(bytes, kHugePageBytes);
  ::madvise(p.get(), bytes, MADV_HUGEPAGE);
  return p;
}

uint64_t resident_bytes() { return status_kilobytes("VmRSS:") * 1024; }
uint64_t peak_resident_bytes() { return status_kilobytes("VmHWM:") * 1024; }

}  // namespace slipway
