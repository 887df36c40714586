#pragma once
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/file.h"

namespace slipway {

/// A folder for plans, removed with what is in it. Fails with kIo where none can be made.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* parent = std::getenv("TMPDIR");
    path_ = join_path(parent != nullptr ? parent : "/tmp", "slipway-verify-XXXXXX");
    if (::mkdtemp(path_.data()) == nullptr)
      fail(ErrorCode::kIo, "A temporary folder can't be made; set TMPDIR to one with space: {}: {}", path_,
           std::strerror(errno));
  }
  ~TemporaryFolder() {
    try {
      for (const std::string& name : list_folder(path_)) ::unlink(join_path(path_, name).c_str());
    } catch (const Error&) {  // someone else removed it
    }
    ::rmdir(path_.c_str());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace slipway
