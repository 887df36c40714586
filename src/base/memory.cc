#include "base/memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace slipway {
namespace {

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

}  // namespace

void AlignedFree::operator()(std::byte* p) const noexcept { std::free(p); }

AlignedBytes allocate_aligned(size_t bytes) {
  const size_t padded = round_up(bytes == 0 ? 1 : bytes, kAlignment);
  auto* p = static_cast<std::byte*>(padded < bytes ? nullptr : std::aligned_alloc(kAlignment, padded));
  if (p == nullptr)
    fail(ErrorCode::kInvalidArgument, "There is not enough memory; use a smaller batch or model ({} bytes asked)",
         bytes);
  return AlignedBytes(p);
}

uint64_t resident_bytes() { return status_kilobytes("VmRSS:") * 1024; }
uint64_t peak_resident_bytes() { return status_kilobytes("VmHWM:") * 1024; }

}  // namespace slipway
