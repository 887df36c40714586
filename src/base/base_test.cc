#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/random.h"

namespace slipway {
namespace {

TEST(Half, EveryCodeSurvivesTheRoundTrip) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float f = half_to_float(static_cast<uint16_t>(h));
    if (std::isnan(f)) continue;
    EXPECT_EQ(float_to_half(f), h);
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(float_to_half(1.0f + 0x1p-11f), 0x3c00);      // a tie goes to even
  EXPECT_EQ(float_to_half(1.0f + 3 * 0x1p-11f), 0x3c02);  // a tie goes to even, upwards
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);             // beyond the largest
  EXPECT_EQ(float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_bfloat16(1.0f + 0x1p-8f), 0x3f80);
}

TEST(Hash, MatchesTheStandardVector) {
  EXPECT_EQ(sha256_hex(std::string_view("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Parallel, CoversTheRangeOnce) {
  for (int64_t count : {0, 1, 2, 7, 100}) {
    std::vector<int> hits(static_cast<size_t>(count), 0);
    parallel_for(count, 2, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    for (int hit : hits) EXPECT_EQ(hit, 1);
  }
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  std::string folder = testing::TempDir() + "/atomic.XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  { AtomicFile(folder + "/a").write("half"); }
  EXPECT_TRUE(list_folder(folder).empty());
  write_file(folder + "/a", "whole");
  EXPECT_EQ(read_text_file(folder + "/a"), "whole");
  EXPECT_EQ(list_folder(folder).size(), 1u);
}

TEST(AtomicFile, RefusesAFolderThatIsNotThere) {
  try {
    AtomicFile file("/no/such/folder/x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_NE(std::string(error.what()).find("/no/such/folder/x"), std::string::npos);
  }
}

}  // namespace
}  // namespace slipway
