#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// Reads a whole regular file. Fails with kNotFound, or kIo when it is larger than `max_bytes` or can't be read.
std::vector<std::byte> read_file(const std::string& path, uint64_t max_bytes = uint64_t{16} << 30);
std::string read_text_file(const std::string& path, uint64_t max_bytes = uint64_t{64} << 20);

/// A file that appears whole or not at all: written to a temporary name in the same folder, renamed by commit();
/// removed by the destructor when there was no commit, and by an interrupt. A link stays one, its target is replaced; a
/// device or pipe is written as it is. Fails with kIo, naming the path.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t bytes_written() const { return bytes_written_; }
  void commit();

 private:
  std::string path_, temporary_;  ///< no temporary name: what is there is written
  int fd_ = -1;
  uint64_t bytes_written_ = 0;
};

void write_file(const std::string& path, std::string_view text);
void write_file(const std::string& path, std::span<const std::byte> bytes);

/// A read-only private mapping of a whole file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Fails with kIo unless a file could be created at `path`: for commands that work long before they write.
void require_writable(const std::string& path);
bool file_exists(const std::string& path);
/// Whether both paths name one file, however they are spelled; it need not exist.
bool is_same_file(const std::string& a, const std::string& b);
/// The path without symbolic links; empty when nothing is there.
std::string real_path(const std::string& path);
/// Whether something is there, and, wherever symbolic links lead, within the folder.
bool lies_in(const std::string& path, const std::string& folder);
bool is_folder(const std::string& path);
uint64_t file_bytes(const std::string& path);
/// Changes whenever the file is written anew: to tell whether what was read from it still holds. Empty: it is not
/// there.
std::string file_state(const std::string& path);
void make_folders(const std::string& path);
/// Names (not paths) of a folder's entries, sorted; hidden ones left out.
std::vector<std::string> list_folder(const std::string& path);
/// With all that is in it; links are removed, not followed. What can't be removed stays.
void remove_folder(const std::string& path) noexcept;
/// `a/b`; an absolute `b` stands alone.
std::string join_path(std::string_view a, std::string_view b);
std::string parent_folder(std::string_view path);
std::string file_name(std::string_view path);
/// $XDG_CACHE_HOME/slipway or ~/.cache/slipway.
std::string user_cache_folder();

}  // namespace slipway
