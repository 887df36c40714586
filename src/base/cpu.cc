#include "base/cpu.h"

#include <cpuid.h>
#include <sched.h>

#include <cstdlib>
#include <fstream>
#include <string_view>
#include <vector>

namespace slipway {
namespace {

CpuFeatures detect() {
  CpuFeatures f;
  __builtin_cpu_init();
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;  // clang has no name for it
  f.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  f.avx512 = f.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  f.avx512_vnni = f.avx512 && __builtin_cpu_supports("avx512vnni");
  f.avx512_bf16 = f.avx512_vnni && __builtin_cpu_supports("avx512bf16");
  const char* cap = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (cap == nullptr) cap = std::getenv("DNNL_MAX_CPU_ISA");
  const std::string_view isa = cap ? cap : "ALL";
  if (isa == "SSE41" || isa == "AVX") f = {};
  if (isa == "AVX2" || isa == "AVX2_VNNI") f.avx512 = f.avx512_vnni = f.avx512_bf16 = false;
  if (isa == "AVX512_CORE") f.avx512_vnni = f.avx512_bf16 = false;
  if (isa == "AVX512_CORE_VNNI") f.avx512_bf16 = false;
  return f;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown CPU";
}

std::string to_string(const CpuFeatures& f) {
  std::string text;
  if (f.avx2) text += " avx2";
  if (f.avx512) text += " avx512";
  if (f.avx512_vnni) text += " avx512_vnni";
  if (f.avx512_bf16) text += " avx512_bf16";
  return text.empty() ? "baseline" : text.substr(1);
}

int cpu_count() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return 1;
}

void stay_on_cpu(int n) {
  static const std::vector<int> cpus = [] {
    std::vector<int> list;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
      for (int i = 0; i < CPU_SETSIZE; ++i)
        if (CPU_ISSET(i, &set)) list.push_back(i);
    return list;
  }();
  if (cpus.empty()) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpus[static_cast<size_t>(n) % cpus.size()], &one);
  sched_setaffinity(0, sizeof one, &one);
}

}  // namespace slipway
