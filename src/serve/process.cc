// Facts of this process from /proc and the cgroup file systems (proc(5), cgroups(7)). A container may show its own
// cgroup as the root, or the host's path that isn't mounted: every level that can be read counts, the rest is skipped.
#include "serve/process.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "serve/metrics.h"

namespace slipway {
namespace {

constexpr size_t kMaxTextBytes = 1 << 20;

/// These files have no size, so they are read to their end; empty when there is none.
std::string text_of(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return {};
  std::string text;
  char chunk[4096];
  for (size_t n = 1; n > 0 && text.size() < kMaxTextBytes; text.append(chunk, n))
    n = std::fread(chunk, 1, sizeof chunk, file);
  std::fclose(file);
  return text;
}

uint64_t number_at(std::string_view text) {
  const size_t start = text.find_first_not_of(" \t\n");
  uint64_t value = 0;
  if (start != std::string_view::npos) std::from_chars(text.data() + start, text.data() + text.size(), value);
  return value;
}

/// The number after `key` at a line's start; 0 when absent.
uint64_t number_after(std::string_view text, std::string_view key) {
  for (size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1))
    if (at == 0 || text[at - 1] == '\n') return number_at(text.substr(at + key.size()));
  return 0;
}

/// The smallest limit in `mount``path` and its parents; "max" reads as 0, no limit.
uint64_t cgroup_limit(const std::string& mount, std::string path, const char* file) {
  uint64_t limit = ~uint64_t{0};
  for (int depth = 0; depth < 64; ++depth) {
    const uint64_t value = number_at(text_of(mount + path + "/" + file));
    if (value > 0) limit = std::min(limit, value);
    if (path.empty()) break;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
  return limit;
}

int64_t open_files() {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int64_t count = -3;  // ".", ".." and this very folder
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return std::max<int64_t>(count, 0);
}

}  // namespace

uint64_t memory_limit_bytes(const std::string& root) {
  uint64_t limit = number_after(text_of(root + "/proc/meminfo"), "MemTotal:") * 1024;
  if (limit == 0) limit = ~uint64_t{0};
  const std::string groups = text_of(root + "/proc/self/cgroup");
  for (size_t start = 0; start < groups.size();) {
    const size_t end = std::min(groups.find('\n', start), groups.size());
    const std::string line = groups.substr(start, end - start);
    start = end + 1;
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1) == "/" ? "" : line.substr(second + 1);
    if (controllers == ",,")
      limit = std::min(limit, cgroup_limit(root + "/sys/fs/cgroup", path, "memory.max"));
    else if (controllers.find(",memory,") != std::string::npos)
      limit = std::min(limit, cgroup_limit(root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
  }
  return limit == ~uint64_t{0} ? 0 : limit;
}

uint64_t free_memory_bytes() {
  const uint64_t limit = memory_limit_bytes();
  if (limit == 0) return 0;
  const uint64_t left = limit - std::min(limit, resident_bytes());
  const uint64_t available = number_after(text_of("/proc/meminfo"), "MemAvailable:") * 1024;
  return std::max<uint64_t>(available == 0 ? left : std::min(left, available), 1);
}

ProcessFacts process_facts() {
  ProcessFacts facts;
  facts.resident_bytes = resident_bytes();
  facts.memory_limit_bytes = memory_limit_bytes();
  facts.open_files = open_files();
  const std::string stat = text_of("/proc/self/stat");
  const size_t name_end = stat.rfind(')');  // the name may hold blanks and brackets
  if (name_end == std::string::npos) return facts;
  std::vector<uint64_t> fields(2);  // so that an index is proc(5)'s number of the field, less one
  for (size_t at = name_end + 1; at < stat.size(); at = stat.find(' ', at + 1))
    fields.push_back(number_at(stat.substr(at)));
  if (fields.size() < 22) return facts;
  const auto ticks = static_cast<double>(std::max(::sysconf(_SC_CLK_TCK), 1L));
  facts.cpu_seconds = static_cast<double>(fields[13] + fields[14]) / ticks;
  facts.threads = static_cast<int64_t>(fields[19]);
  const auto boot_s = static_cast<double>(number_after(text_of("/proc/stat"), "btime "));
  facts.start_time_s = boot_s + static_cast<double>(fields[21]) / ticks;
  return facts;
}

}  // namespace slipway
