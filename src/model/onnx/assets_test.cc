// Real models: each file is read and inferred, comes back from ONNX and from its text, and python3-onnx's checker
// accepts what was written (up to the opset that it knows).
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxBytes = 10u << 20;  // larger files cost time and show nothing new
constexpr int64_t kCheckerOpset = 17;

std::string assets() {
  const char* folder = std::getenv("SLIPWAY_ASSETS");
  return folder ? folder : SLIPWAY_SOURCE_DIR "/../shared/assets";
}

// One process checks every file of the folder; its complaints go to standard error. False when python3-onnx is absent.
bool check_with_python(const std::string& folder) {
  const std::string script =
      "import glob, sys\n"
      "try: import onnx\n"
      "except ImportError: sys.exit(77)\n"
      "bad = 0\n"
      "for path in sorted(glob.glob(sys.argv[1] + '/*.onnx')):\n"
      "  try: onnx.checker.check_model(path)\n"
      "  except Exception as e: bad += 1; print(path, e, file=sys.stderr)\n"
      "sys.exit(bad > 0)\n";
  write_file(join_path(folder, "check.py"), script);
  const int status = std::system(fmt::format("/usr/bin/python3 '{0}/check.py' '{0}'", folder).c_str());
  if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127)) return false;
  EXPECT_EQ(status, 0);
  return true;
}

struct Folder {
  std::string path = (fs::temp_directory_path() / fmt::format("slipway_checker_{}", ::getpid())).string();
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

TEST(Assets, RealModelsRoundTripAndTheCheckerAcceptsThem) {
  if (!is_folder(assets())) GTEST_SKIP() << "no assets at " << assets();
  const Folder out;
  int read = 0, written = 0;
  for (const char* folder : {"onnx", "imagenet", "torch", "keras"}) {
    for (const auto& entry : fs::recursive_directory_iterator(join_path(assets(), folder))) {
      const std::string path = entry.path().string();
      if (entry.path().extension() != ".onnx" || entry.file_size() > kMaxBytes) continue;
      SCOPED_TRACE(path);
      try {
        const Graph graph = load_onnx(path);
        ++read;
        const auto bytes = serialize_onnx(graph);
        const Graph again = parse_onnx(bytes);
        EXPECT_EQ(serialize_onnx(again), bytes);
        const std::string text = to_text(again);
        EXPECT_EQ(to_text(parse_text(text)), text);
        if (again.opset() > kCheckerOpset || again.ir_version > 8) continue;
        write_file(join_path(out.path, fmt::format("{}_{}", written++, file_name(path))), bytes);
      } catch (const Error& e) {
        ADD_FAILURE() << e.what();
      }
    }
  }
  EXPECT_GE(read, 10);
  if (!check_with_python(out.path)) GTEST_SKIP() << "python3-onnx is not installed";
}

TEST(Assets, FilesOfOtherFrameworksAreAnsweredWithTheCommandThatHelps) {
  if (!is_folder(assets())) GTEST_SKIP() << "no assets at " << assets();
  int answered = 0;
  for (const auto& entry : fs::recursive_directory_iterator(assets())) {
    const std::string extension = entry.path().extension().string();
    const bool tensor = entry.path().filename().string().find("output_0") != std::string::npos;
    const auto expected = tensor                   ? "This is a tensor"
                          : extension == ".tflite" ? "tf2onnx.convert --tflite"
                          : extension == ".pb" || extension == ".keras" || extension == ".h5" ? "tf2onnx.convert"
                          : extension == ".pt2" || extension == ".pt"                         ? "torch.onnx.export"
                                                                                              : nullptr;
    if (expected == nullptr) continue;
    try {
      load_onnx(entry.path().string());
      ADD_FAILURE() << entry.path() << " was read";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidModel);
      EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
      ++answered;
    }
  }
  EXPECT_GE(answered, 5);
}

TEST(Checker, AcceptsEveryKindOfAttributeAndSubgraph) {
  const Folder out;
  const std::string corpus = SLIPWAY_SOURCE_DIR "/tests/corpus/onnx_fuzz/";
  for (const char* name : {"cnn.onnx", "control.onnx", "functions.onnx"})
    save_onnx(load_onnx(corpus + name), join_path(out.path, name));
  if (!check_with_python(out.path)) GTEST_SKIP() << "python3-onnx is not installed";
}

}  // namespace
}  // namespace slipway
