// Replays the fuzz corpora: every file whole, cut at every place, and with single bytes changed.
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/random.h"
#include "model/exercise.h"

namespace slipway {
namespace {

constexpr int kMutations = 3000;

template <typename F>
void replay(const std::string& folder, F&& exercise) {
  const std::string path = std::string(SLIPWAY_SOURCE_DIR "/tests/corpus/") + folder;
  int files = 0, valid = 0;
  Random random(20240229);
  for (const std::string& name : list_folder(path)) {
    const std::string whole = read_text_file(join_path(path, name));
    ++files;
    valid += exercise(whole);
    for (size_t n = 0; n < whole.size(); ++n) exercise(whole.substr(0, n));
    for (int i = 0; i < kMutations && !whole.empty(); ++i) {
      std::string changed = whole;
      changed[random.below(whole.size())] = static_cast<char>(random.below(256));
      exercise(changed);
    }
  }
  EXPECT_GE(files, 4);
  EXPECT_GE(valid, 3);
}

TEST(Corpus, OnnxFilesDoNoWorseThanFail) {
  replay("onnx_fuzz", [](const std::string& s) { return exercise_onnx(std::as_bytes(std::span(s))); });
}

TEST(Corpus, TextFilesDoNoWorseThanFail) {
  replay("text_fuzz", [](const std::string& s) { return exercise_text(s); });
}

}  // namespace
}  // namespace slipway
