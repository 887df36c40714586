// Files: bounded reads, writes that appear whole or not at all, and read-only mappings.
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/error.h"
#include "base/file_reader.h"

namespace slipway {
namespace fs = std::filesystem;
namespace {

// Reading a mapping beyond where its file has been truncated raises SIGBUS, which can't become an exception: the
// process ends with a sentence.
void on_bus_error(int signal, siginfo_t* info, void*) {
  constexpr std::string_view kSentence =
      "slipway: A data file was cut short while it was read; restore it and run again.\n";
  if (info->si_code == BUS_ADRERR) {
    static_cast<void>(!::write(STDERR_FILENO, kSentence.data(), kSentence.size()));
    std::_Exit(exit_status(ErrorCode::kIo));
  }
  ::signal(signal, SIG_DFL);  // another fault: it is raised again on return
}

}  // namespace
std::vector<std::byte> read_file(const std::string& path, uint64_t max_bytes) {
  const FileReader file(path);
  if (file.size() > max_bytes)
    fail(ErrorCode::kIo, "The file is larger than the {} bytes allowed here ({} bytes): {}", max_bytes, file.size(),
         path);
  std::vector<std::byte> bytes(file.size());
  file.read(0, bytes.data(), bytes.size());
  return bytes;
}

std::string read_text_file(const std::string& path, uint64_t max_bytes) {
  const auto bytes = read_file(path, max_bytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  static std::atomic<int> serial{0};
  struct stat there {};
  if (::stat(path_.c_str(), &there) == 0) {
    if (S_ISDIR(there.st_mode)) fail(ErrorCode::kIo, "The output's name is a folder's; give another: {}", path_);
    if (!S_ISREG(there.st_mode)) {  // not waiting for a pipe's reader
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
      if (fd_ < 0)
        fail(ErrorCode::kIo, "The output can't be written ({}); name a file: {}", std::strerror(errno), path_);
      ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
      return;
    }
    const std::unique_ptr<char, void (*)(void*)> target(::realpath(path_.c_str(), nullptr), std::free);
    if (target != nullptr) path_ = target.get();
  }
  temporary_ = path_ + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(serial++);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0)
    fail(ErrorCode::kIo, "The output can't be written ({}); choose a folder that exists and is writable: {}",
         std::strerror(errno), path_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  size_t left = bytes;
  while (left > 0) {
    const ssize_t n = ::write(fd_, at, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "Writing failed ({}); nothing was left behind: {}", std::strerror(errno), path_);
    at += n;
    left -= static_cast<size_t>(n);
  }
  bytes_written_ += bytes;
}

void AtomicFile::commit() {
  const bool flushed = ::fsync(fd_) == 0 || errno == EINVAL || errno == EROFS;
  const int fd = std::exchange(fd_, -1);
  const bool closed = ::close(fd) == 0;
  if (temporary_.empty() && closed) return;
  if (flushed && closed && ::rename(temporary_.c_str(), path_.c_str()) == 0) return;
  const int error = errno;
  ::unlink(temporary_.c_str());
  fail(ErrorCode::kIo, "The output can't be put in place ({}): {}", std::strerror(error), path_);
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

MappedFile::MappedFile(const std::string& path) {
  const FileReader file(path);
  size_ = static_cast<size_t>(file.size());
  if (size_ == 0) return;
  void* at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (at == MAP_FAILED) fail(ErrorCode::kIo, "The file can't be mapped ({}): {}", std::strerror(errno), path);
  data_ = static_cast<const std::byte*>(at);
  static const bool explained = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  SLIPWAY_CHECK(explained);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void require_writable(const std::string& path) { AtomicFile probe(path); }

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  const auto plain = [&](const std::string& path) { return fs::weakly_canonical(fs::absolute(path, error), error); };
  return fs::equivalent(a, b, error) || plain(a) == plain(b);
}

bool file_exists(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  std::string real = resolved == nullptr ? "" : resolved;
  std::free(resolved);
  return real;
}

bool lies_in(const std::string& path, const std::string& folder) {
  const std::string root = real_path(folder);
  return !root.empty() && real_path(path).starts_with(root == "/" ? root : root + "/");
}

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

uint64_t file_bytes(const std::string& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error) fail(ErrorCode::kNotFound, "There is no such file; check the path: {}", path);
  return size;
}

std::string file_state(const std::string& path) {
  struct stat s = {};
  if (::stat(path.c_str(), &s) != 0) return "";
  return fmt::format("{} {} {} {}.{}", s.st_dev, s.st_ino, s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}

void make_folders(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail(ErrorCode::kIo, "The folder can't be made ({}): {}", error.message(), path);
}

// By the system's own calls: std::filesystem's iterators end the process where there is no memory.
std::vector<std::string> list_folder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (folder == nullptr) fail(ErrorCode::kNotFound, "The folder can't be read ({}): {}", std::strerror(errno), path);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  if (errno != 0) fail(ErrorCode::kIo, "The folder can't be read to its end ({}): {}", std::strerror(errno), path);
  std::sort(names.begin(), names.end());
  return names;
}

void remove_folder(const std::string& path) noexcept {
  constexpr int kDescriptors = 16;
  ::nftw(
      path.c_str(), [](const char* entry, const struct stat*, int, FTW*) { return ::remove(entry), 0; }, kDescriptors,
      FTW_DEPTH | FTW_PHYS);
}

std::string join_path(std::string_view a, std::string_view b) { return (fs::path(a) / fs::path(b)).string(); }

std::string parent_folder(std::string_view path) {
  auto parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string file_name(std::string_view path) { return fs::path(path).filename().string(); }

std::string user_cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return join_path(cache, "slipway");
  const char* home = std::getenv("HOME");
  return join_path(home && *home ? home : "/tmp", ".cache/slipway");
}

}  // namespace slipway
