#pragma once
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace slipway {

/// A folder of a test's own, removed at the end.
class TestFolder {
 public:
  TestFolder() {
    char name[] = "/tmp/slipway_data_XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TestFolder() { static_cast<void>(std::system(("rm -rf " + path_).c_str())); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string path(std::string_view name = "") const { return join_path(path_, name); }
  std::string write(std::string_view name, std::string_view text) const {
    const std::string to = path(name);
    make_folders(parent_folder(to));
    write_file(to, text);
    return to;
  }

 private:
  std::string path_;
};

/// The message of the Error that `work` throws; empty when it throws none.
inline std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

inline std::string assets_folder() {
  const char* folder = std::getenv("SLIPWAY_ASSETS");
  return folder != nullptr ? folder : SLIPWAY_SOURCE_DIR "/../shared/assets";
}

}  // namespace slipway
