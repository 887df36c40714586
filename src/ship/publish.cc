// Publishing. A folder is not replaced, only added: rename(2) of a whole folder is atomic and fails where one with
// content stands, so that of two publishers at the same time each gets a number of its own.
#include "ship/publish.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/hash.h"
#include "model/onnx/identity.h"

namespace slipway {
namespace {

constexpr size_t kMaxName = 128;
constexpr int kAttempts = 1000;
constexpr std::string_view kTemporary = ".tmp-";

/// The leading number of a folder's name; 0 where there is none.
int64_t leading_number(std::string_view name, std::string_view& rest) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  rest = name.substr(static_cast<size_t>(end - name.data()));
  return error == std::errc() && number > 0 ? number : 0;
}

/// What a publisher left that was killed half-way.
void remove_leftovers(const std::string& folder) {
  for (const std::string& name : list_folder(folder)) {
    std::string_view rest;
    if (leading_number(name, rest) == 0 || !rest.starts_with(kTemporary)) continue;
    std::string_view none;
    const auto pid = static_cast<pid_t>(leading_number(rest.substr(kTemporary.size()), none));
    if (pid > 0 && pid != ::getpid() && ::kill(pid, 0) != 0 && errno == ESRCH) remove_folder(join_path(folder, name));
  }
}

void copy_if_changed(const std::string& from, const std::string& to) {
  if (from.empty() || (file_exists(to) && sha256_of_file(from) == sha256_of_file(to))) return;
  copy_file(from, to);
}

void sync_folder(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

/// The folders of a version's files.
void sync_folders(const std::string& version, const ModelIdentity& identity) {
  std::set<std::string> folders{version};
  for (const std::string& name : identity.data_files)
    for (std::string f = parent_folder(join_path(version, name)); f.size() > version.size(); f = parent_folder(f))
      folders.insert(f);
  for (const std::string& folder : folders) sync_folder(folder);
}

/// Whether the model of a version is this one; one that can't be read is another.
bool holds_model(const std::string& path, const ModelIdentity& identity) {
  try {
    return file_exists(path) && identify_model(path).sha256 == identity.sha256;
  } catch (const Error&) {
    return false;
  }
}

/// The files beside the model, and their names in a version's folder.
std::vector<std::pair<std::string, std::string>> companions(const VersionFiles& files) {
  return {{files.report, "report.json"}, {files.page, "report.html"}, {files.plan, "model.plan"}};
}

/// A temporary folder that is gone unless it was renamed.
class Draft {
 public:
  Draft(const std::string& folder, int64_t version)
      : path_(join_path(folder, fmt::format("{}{}{}", version, kTemporary, ::getpid()))) {
    make_folders(path_);
  }
  ~Draft() { remove_folder(path_); }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

void require_model_name(const std::string& name) {
  const bool good = !name.empty() && name.size() <= kMaxName && name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return (c < 128 && std::isalnum(c) != 0) || c == '.' || c == '_' || c == '-';
                    });
  if (!good)
    fail(ErrorCode::kInvalidArgument,
         "A model's name has letters, digits, '.', '_' and '-' and begins with no dot; give one with --name: '{}'",
         name);
}

Published publish_version(const std::string& repository, const std::string& name, const VersionFiles& files) {
  require_model_name(name);
  const std::string folder = join_path(repository, name);
  make_folders(folder);
  remove_leftovers(folder);
  const ModelIdentity identity = identify_model(files.model);
  for (const auto& [from, to] : companions(files))
    if (std::find(identity.data_files.begin(), identity.data_files.end(), to) != identity.data_files.end())
      fail(ErrorCode::kInvalidArgument,
           "A data file has the name of a file of the version; save the model with another name for its data: {} of {}",
           to, files.model);
  int64_t newest = 0, same = 0;
  for (const std::string& entry : list_folder(folder)) {
    std::string_view rest;
    const int64_t version = leading_number(entry, rest);
    if (version == 0 || !rest.empty()) continue;
    newest = std::max(newest, version);
    const std::string model = join_path(join_path(folder, entry), "model.onnx");
    if (holds_model(model, identity)) same = std::max(same, version);
  }
  if (same > 0) {
    const std::string existing = join_path(folder, std::to_string(same));
    for (const auto& [from, to] : companions(files)) copy_if_changed(from, join_path(existing, to));
    return {same, true};
  }
  const Draft draft(folder, newest + 1);
  if (copy_model(files.model, join_path(draft.path(), "model.onnx")).sha256 != identity.sha256)
    fail(ErrorCode::kIo, "The model changed while it was published; do it again: {}", files.model);
  for (const auto& [from, to] : companions(files))
    if (!from.empty()) copy_file(from, join_path(draft.path(), to));
  sync_folders(draft.path(), identity);
  for (int64_t version = newest + 1; version <= newest + kAttempts; ++version) {
    if (std::rename(draft.path().c_str(), join_path(folder, std::to_string(version)).c_str()) == 0) {
      sync_folder(folder);
      return {version, false};
    }
    if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR) break;
  }
  fail(ErrorCode::kIo, "The version can't be put into the repository ({}); is it writable? {}", std::strerror(errno),
       folder);
}

}  // namespace slipway
