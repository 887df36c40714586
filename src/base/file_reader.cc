// Files read into memory of our own. A mapping would show whatever becomes of the file: SIGBUS where it is truncated,
// other bytes where it is written over.
#include "base/file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace slipway {

FileReader::FileReader(std::string path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is refused, not waited for
  if (fd_ < 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      fail(ErrorCode::kNotFound, "There is no such file; check the path: {}", path_);
    fail(ErrorCode::kIo, "The file can't be opened ({}): {}", std::strerror(errno), path_);
  }
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    fail(ErrorCode::kIo, "This is not a regular file; name a file: {}", path_);
  }
  size_ = static_cast<uint64_t>(info.st_size);
}

FileReader::~FileReader() { ::close(fd_); }

void FileReader::read(uint64_t offset, void* to, size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n = ::pread(fd_, static_cast<std::byte*>(to) + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "The file can't be read ({}): {}", std::strerror(errno), path_);
    if (n == 0)
      fail(ErrorCode::kIo, "The file could be read only in part; it was cut short meanwhile ({} of {} bytes): {}",
           offset + done, size_, path_);
    done += static_cast<size_t>(n);
  }
}

FileContents read_contents(const std::string& path) {
  const FileReader file(path);
  FileContents contents{allocate_large(file.size()), file.size()};
  file.read(0, contents.data.get(), contents.size);
  return contents;
}

void copy_file(const std::string& from, const std::string& to) {
  const FileReader file(from);
  AtomicFile copy(to);
  file.read_blocks([&](const std::byte* data, size_t bytes) { copy.write(data, bytes); });
  copy.commit();
}

}  // namespace slipway
