// Runs every fuzz target of this folder over its corpus, and over seeded mutations of each file.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "base/random.h"

#define LLVMFuzzerTestOneInput fuzz_image
#include "data/image_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_npy
#include "data/npy_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_records
#include "data/records_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_data_file
#include "data/data_file_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

void replay(const std::string& name, int (*target)(const uint8_t*, size_t)) {
  const std::string folder = SLIPWAY_SOURCE_DIR "/tests/corpus/" + name;
  const auto files = list_folder(folder);
  ASSERT_FALSE(files.empty()) << folder;
  Random random(1);
  for (const std::string& file : files) {
    const auto bytes = read_file(join_path(folder, file));
    const auto* begin = reinterpret_cast<const uint8_t*>(bytes.data());
    target(begin, bytes.size());
    for (int round = 0; round < 200; ++round) {
      std::vector<uint8_t> mutated(begin, begin + bytes.size());
      if (round % 4 == 0) mutated.resize(random.below(mutated.size() + 1));
      for (uint64_t edits = random.below(4); edits > 0 && !mutated.empty(); --edits)
        mutated[random.below(mutated.size())] = static_cast<uint8_t>(random.next());
      target(mutated.data(), mutated.size());
    }
  }
}

TEST(Corpus, Image) { replay("image_fuzz", fuzz_image); }
TEST(Corpus, Npy) { replay("npy_fuzz", fuzz_npy); }
TEST(Corpus, Records) { replay("records_fuzz", fuzz_records); }
TEST(Corpus, DataFile) { replay("data_file_fuzz", fuzz_data_file); }

}  // namespace
}  // namespace slipway
