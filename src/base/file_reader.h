#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/memory.h"

namespace slipway {

/// A regular file opened for reading. What it hands out is copied, so that nothing done to the file later (truncated,
/// written over, replaced) reaches who has read it.
class FileReader {
 public:
  /// Fails with kNotFound, or kIo when it can't be opened or is not a regular file.
  explicit FileReader(std::string path);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  int descriptor() const { return fd_; }
  uint64_t size() const { return size_; }  ///< when it was opened
  /// Exactly these bytes; fails with kIo, also when the file has become shorter.
  void read(uint64_t offset, void* to, size_t bytes) const;
  /// The whole file in order, a block at a time: work(data, bytes).
  template <typename Work>
  void read_blocks(const Work& work) const {
    constexpr uint64_t kBlockBytes = 256 * 1024;  // stays in the second-level cache between reading and working on it
    const auto block = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
    for (uint64_t at = 0; at < size_; at += kBlockBytes) {
      const auto bytes = static_cast<size_t>(size_ - at < kBlockBytes ? size_ - at : kBlockBytes);
      read(at, block.get(), bytes);
      work(block.get(), bytes);
    }
  }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

/// A file's contents in memory of our own.
struct FileContents {
  AlignedBytes data;
  size_t size = 0;
  std::span<const std::byte> bytes() const { return {data.get(), size}; }
};
/// Fails as FileReader does; kInvalidArgument where it does not fit into memory.
FileContents read_contents(const std::string& path);
/// The copy appears whole or not at all. Fails as FileReader and AtomicFile do.
void copy_file(const std::string& from, const std::string& to);

}  // namespace slipway
