#pragma once
#include <string>

namespace slipway {

/// What this CPU can do, capped by the environment's ONEDNN_MAX_CPU_ISA (SSE41, AVX, AVX2, AVX512_CORE,
/// AVX512_CORE_VNNI, …), so that one switch rules oneDNN's kernels and ours alike.
struct CpuFeatures {
  bool avx2 = false;         ///< AVX2, FMA and F16C
  bool avx512 = false;       ///< AVX-512 F, BW, VL, DQ
  bool avx512_vnni = false;  ///< with VNNI
  bool avx512_bf16 = false;
};

const CpuFeatures& cpu_features();
std::string cpu_name();
/// "avx2", "avx2 avx512 avx512_vnni", or "baseline".
std::string to_string(const CpuFeatures& features);
int cpu_count();
/// Keeps the calling thread on the n-th, counted round and round, of the CPUs that it might use at the first call.
void stay_on_cpu(int n);

}  // namespace slipway
