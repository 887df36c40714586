// Runs the fuzz target of this folder over its corpus, and over seeded mutations of each file.
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/random.h"

#define LLVMFuzzerTestOneInput fuzz_alarm_rules
#include "monitor/alarm_rules_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

TEST(Corpus, AlarmRules) {
  const std::string folder = SLIPWAY_SOURCE_DIR "/tests/corpus/alarm_rules_fuzz";
  const auto files = list_folder(folder);
  ASSERT_FALSE(files.empty());
  Random random(1);
  for (const std::string& file : files) {
    const std::string text = read_text_file(join_path(folder, file));
    for (int round = 0; round < 200; ++round) {
      std::string mutated = text;
      for (uint64_t edits = random.below(4); edits > 0 && !mutated.empty(); --edits)
        mutated[random.below(mutated.size())] = static_cast<char>(random.next());
      if (round == 0) mutated = text;
      fuzz_alarm_rules(reinterpret_cast<const uint8_t*>(mutated.data()), mutated.size());
    }
  }
}

}  // namespace
}  // namespace slipway
