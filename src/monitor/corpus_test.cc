// Runs the fuzz target of this folder over its corpus, and over seeded mutations of each file.
#include <gtest/gtest.h>

#include "base/replay_corpus.h"

#define LLVMFuzzerTestOneInput fuzz_alarm_rules
#include "monitor/alarm_rules_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

TEST(Corpus, AlarmRules) { replay_corpus("alarm_rules_fuzz", fuzz_alarm_rules); }

}  // namespace
}  // namespace slipway
