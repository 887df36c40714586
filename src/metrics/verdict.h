#pragma once

namespace slipway {

/// Of a judgement with a bound: kept, broken, or not to be told from what was measured.
enum class Verdict { kPass, kFail, kInconclusive };

/// "pass", "fail", "inconclusive".
constexpr const char* to_string(Verdict verdict) {
  return verdict == Verdict::kPass ? "pass" : verdict == Verdict::kFail ? "fail" : "inconclusive";
}

}  // namespace slipway
