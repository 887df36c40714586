#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>

#include "base/block_digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
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

TEST(Hash, OfAFileIsThatOfItsBytes) {
  const std::string path = testing::TempDir() + "/hashed", text(1'000'003, 'a');
  write_file(path, text);
  EXPECT_EQ(sha256_of_file(path), sha256_hex(text));
}

TEST(BlockDigest, DoesNotDependOnHowTheBytesCome) {
  constexpr uint64_t kSeed = 7;
  Random random(kSeed);
  std::string text(1000, '\0');
  for (char& c : text) c = static_cast<char>(random.below(256));
  const std::string whole = BlockDigest().add(text.data(), text.size()).hex();
  for (int i = 0; i < 100; ++i) {
    BlockDigest digest;
    for (size_t at = 0; at < text.size();) {
      const size_t bytes = std::min(text.size() - at, static_cast<size_t>(random.below(200)));
      digest.add(text.data() + at, bytes);
      at += bytes;
    }
    EXPECT_EQ(digest.hex(), whole) << "seed " << kSeed;
  }
}

TEST(BlockDigest, EveryFlippedBitAndEveryLengthDiffers) {
  std::set<std::string> digests;
  for (size_t bytes = 0; bytes < 200; ++bytes) {
    std::string text(bytes, '\0');
    EXPECT_TRUE(digests.insert(BlockDigest().add(text.data(), bytes).hex()).second);
  }
  std::string text(200, 'x');
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(digests.insert(BlockDigest().add(text.data(), text.size()).hex()).second) << bit;
    text[bit / 8] = 'x';
  }
}

TEST(FileReader, CopiesAndRefusesWhatHasBecomeShorter) {
  const std::string path = testing::TempDir() + "/read", text = "0123456789";
  write_file(path, text);
  const FileReader file(path);
  const FileContents contents = read_contents(path);
  copy_file(path, path + ".copy");
  EXPECT_EQ(read_text_file(path + ".copy"), text);
  ASSERT_EQ(::truncate(path.c_str(), 4), 0);
  char bytes[10];
  EXPECT_NO_THROW(file.read(0, bytes, 4));
  EXPECT_THROW(file.read(0, bytes, 10), Error);
  EXPECT_EQ(std::memcmp(contents.bytes().data(), text.data(), text.size()), 0);
  EXPECT_THROW(FileReader{testing::TempDir()}, Error);
}

TEST(MappedFileDeathTest, EndsWithASentenceWhereTheFileIsCutShort) {
  const std::string path = testing::TempDir() + "/mapped";
  write_file(path, std::string(100'000, 'x'));
  EXPECT_EXIT(
      {
        const MappedFile file(path);
        if (::truncate(path.c_str(), 0) != 0) std::abort();
        std::_Exit(file.bytes()[50'000] == std::byte{'x'} ? 0 : 1);
      },
      testing::ExitedWithCode(exit_status(ErrorCode::kIo)), "cut short");
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

TEST(AtomicFile, ReplacesFilesAndNothingElse) {
  std::string folder = testing::TempDir() + "/atomic.XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string link = folder + "/link", file = folder + "/file", pipe = folder + "/pipe";
  write_file(file, "old");
  ASSERT_EQ(::symlink("file", link.c_str()), 0);
  write_file(link, "new");
  EXPECT_EQ(read_text_file(file), "new");
  struct stat there {};
  EXPECT_TRUE(::lstat(link.c_str(), &there) == 0 && S_ISLNK(there.st_mode));
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(write_file(pipe, "nobody reads"), Error);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  write_file(pipe, "read");
  char got[5] = {};
  EXPECT_EQ(::read(reader, got, 4), 4);
  EXPECT_STREQ(got, "read");
  ::close(reader);
  EXPECT_TRUE(::lstat(pipe.c_str(), &there) == 0 && S_ISFIFO(there.st_mode));
  write_file("/dev/null", "gone");
  EXPECT_TRUE(::lstat("/dev/null", &there) == 0 && S_ISCHR(there.st_mode));
  EXPECT_THROW(write_file(folder, "x"), Error);
  remove_folder(folder);
  EXPECT_NE(::lstat(folder.c_str(), &there), 0);
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
