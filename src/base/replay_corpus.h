#pragma once
// Fuzz targets in the ordinary tests: the corpus, and seeded mutations of each of its files.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"

namespace slipway {

/// Calls `target` with each file of tests/corpus/NAME, then with `rounds` of it cut short or with a few bytes changed.
inline void replay_corpus(const std::string& name, int (*target)(const uint8_t*, size_t), int rounds = 300) {
  const std::string folder = SLIPWAY_SOURCE_DIR "/tests/corpus/" + name;
  const auto files = list_folder(folder);
  ASSERT_FALSE(files.empty()) << folder;
  Random random(1);
  for (const std::string& file : files) {
    const auto bytes = read_file(join_path(folder, file));
    const auto* begin = reinterpret_cast<const uint8_t*>(bytes.data());
    target(begin, bytes.size());
    for (int round = 0; round < rounds; ++round) {
      std::vector<uint8_t> mutated(begin, begin + bytes.size());
      if (round % 4 == 0) mutated.resize(random.below(mutated.size() + 1));
      for (uint64_t edits = random.below(4); edits > 0 && !mutated.empty(); --edits)
        mutated[random.below(mutated.size())] = static_cast<uint8_t>(random.next());
      target(mutated.data(), mutated.size());
    }
  }
}

}  // namespace slipway
