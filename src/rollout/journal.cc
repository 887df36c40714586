// The journal: three tables in one SQLite file. WAL with synchronous=FULL makes a commit durable before it returns
// (SQLite, "Write-Ahead Logging" §2, pragma synchronous); an exclusive lock, which the system drops with the process,
// keeps a second server out.
#include "rollout/journal.h"

#include <sqlite3.h>

#include <mutex>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

constexpr int kFormat = 2;
constexpr const char* kSchema = R"(
CREATE TABLE live (
  id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
  override_reason TEXT NOT NULL);
CREATE INDEX live_of_model ON live (model, id);
CREATE TABLE rollout (
  model TEXT PRIMARY KEY, phase TEXT NOT NULL, live INTEGER NOT NULL, candidate INTEGER NOT NULL,
  candidate_sha256 TEXT NOT NULL, override_reason TEXT NOT NULL, reason TEXT NOT NULL, step INTEGER NOT NULL,
  share INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, model TEXT NOT NULL, event TEXT NOT NULL,
  sentence TEXT NOT NULL, who TEXT NOT NULL, details TEXT NOT NULL);
CREATE INDEX event_of_model ON event (model, id);
CREATE TRIGGER event_stays BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'history stays'); END;
CREATE TRIGGER event_is_kept BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'history stays'); END;
)";
/// From format 1 on.
constexpr const char* kTakenBack = "ALTER TABLE live ADD COLUMN taken_back INTEGER NOT NULL DEFAULT 0";

}  // namespace

struct Journal::Impl {
  JournalOptions options;
  sqlite3* db = nullptr;
  mutable std::mutex mutex;

  ~Impl() { sqlite3_close(db); }

  [[noreturn]] void broken(const char* what) const {
    const int code = db == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(db);
    const char* remedy = (code & 0xff) == SQLITE_FULL     ? "free some space"
                         : (code & 0xff) == SQLITE_BUSY   ? "another server uses it; stop that one or name another file"
                         : (code & 0xff) == SQLITE_NOTADB ? "it is no journal; move it away"
                                                          : "see that the folder is there, writable and sound";
    fail(ErrorCode::kIo, "The rollout journal can't be {}; {}: {}: {}", what, remedy, options.path,
         db == nullptr ? "no memory" : sqlite3_errmsg(db));
  }

  void run(const char* sql, const char* what) const {
    if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) broken(what);
  }
};

namespace {

/// A prepared statement, its values bound in order.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) { ok_ = sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr) == SQLITE_OK; }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int64_t value) {
    ok_ = ok_ && sqlite3_bind_int64(statement_, ++bound_, value) == SQLITE_OK;
    return *this;
  }
  Statement& bind(const std::string& value) {
    ok_ = ok_ && sqlite3_bind_text(statement_, ++bound_, value.data(), static_cast<int>(value.size()),
                                   SQLITE_TRANSIENT) == SQLITE_OK;
    return *this;
  }
  /// True while there are rows; `failed` says whether it ended by an error.
  bool step() {
    const int code = ok_ ? sqlite3_step(statement_) : SQLITE_ERROR;
    ok_ = code == SQLITE_ROW || code == SQLITE_DONE;
    return code == SQLITE_ROW;
  }
  bool failed() const { return !ok_; }
  int64_t number() { return sqlite3_column_int64(statement_, column_++); }
  std::string text() {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column_));
    const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column_++));
    return bytes == nullptr ? std::string() : std::string(bytes, size);
  }
  void next_row() { column_ = 0; }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0, column_ = 0;
  bool ok_ = false;
};

}  // namespace

Journal::Journal(JournalOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  const std::string& path = impl_->options.path;
  if (path != ":memory:" && !parent_folder(path).empty()) make_folders(parent_folder(path));
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(path.c_str(), &impl_->db, kFlags, nullptr) != SQLITE_OK) impl_->broken("opened");
  sqlite3_extended_result_codes(impl_->db, 1);
  impl_->run("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN IMMEDIATE",
             "opened");
  int64_t found = 0;
  {
    Statement format(impl_->db, "PRAGMA user_version");
    if (!format.step()) impl_->broken("read");
    found = format.number();
    if (found > kFormat)
      fail(ErrorCode::kIo, "The rollout journal was written by a newer Slipway; use that one or move it away: {}",
           path);
  }
  if (found < kFormat) {
    if (found < 1) impl_->run(kSchema, "opened");
    impl_->run(kTakenBack, "opened");
    impl_->run(fmt::format("PRAGMA user_version={}", kFormat).c_str(), "opened");
  }
  impl_->run("COMMIT", "opened");
  if (impl_->options.max_bytes > 0)
    impl_->run(fmt::format("PRAGMA max_page_count={}", (impl_->options.max_bytes + 4095) / 4096).c_str(), "opened");
}

Journal::~Journal() = default;

void Journal::write(const Change& change) {
  const std::lock_guard lock(impl_->mutex);
  sqlite3* db = impl_->db;
  if (impl_->options.at_commit) impl_->options.at_commit();
  impl_->run("BEGIN IMMEDIATE", "written");
  try {
    const auto done = [&](Statement& statement) {
      while (statement.step()) {
      }
      if (statement.failed()) impl_->broken("written");
    };
    if (change.live && change.taken_back) {
      Statement s(db,
                  "UPDATE live SET taken_back = 1 WHERE model = ?1 AND id > (SELECT max(id) FROM live WHERE model = ?1 "
                  "AND version = ?2 AND sha256 = ?3 AND NOT taken_back)");
      s.bind(change.model).bind(change.live->version).bind(change.live->sha256);
      done(s);
    }
    if (change.live) {
      Statement s(db, "INSERT INTO live (model, version, sha256, override_reason) VALUES (?, ?, ?, ?)");
      s.bind(change.model).bind(change.live->version).bind(change.live->sha256).bind(change.live->override_reason);
      done(s);
    }
    if (change.rollout) {
      const RolloutRecord& r = *change.rollout;
      Statement s(db, "INSERT OR REPLACE INTO rollout VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
      s.bind(change.model).bind(std::string(to_string(r.phase))).bind(r.live).bind(r.candidate);
      s.bind(r.candidate_sha256).bind(r.override_reason).bind(r.reason).bind(r.step).bind(r.share);
      done(s);
    }
    for (const JournalEvent& e : change.events) {
      Statement s(db, "INSERT INTO event (at_ms, model, event, sentence, who, details) VALUES (?, ?, ?, ?, ?, ?)");
      s.bind(e.at_ms).bind(change.model).bind(e.event).bind(e.sentence).bind(e.who).bind(e.details);
      done(s);
    }
    impl_->run("COMMIT", "written");
  } catch (const Error&) {
    if (sqlite3_get_autocommit(db) == 0) sqlite3_exec(db, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
  if (impl_->options.at_commit) impl_->options.at_commit();
}

std::vector<LiveRecord> Journal::live(const std::string& model) const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<LiveRecord> records;
  // Of each version's rows the one that max() found; below zero when all of them were taken back.
  Statement s(
      impl_->db,
      "SELECT max(id - (taken_back << 60)) AS place, version, sha256, override_reason FROM live WHERE model = ? "
      "GROUP BY version, sha256 ORDER BY place DESC");
  for (s.bind(model); s.step(); s.next_row()) {
    LiveRecord r;
    r.taken_back = s.number() < 0;
    r.version = s.number(), r.sha256 = s.text(), r.override_reason = s.text();
    records.push_back(std::move(r));
  }
  if (s.failed()) impl_->broken("read");
  return records;
}

std::map<std::string, RolloutRecord> Journal::rollouts() const {
  const std::lock_guard lock(impl_->mutex);
  std::map<std::string, RolloutRecord> records;
  Statement s(
      impl_->db,
      "SELECT model, phase, live, candidate, candidate_sha256, override_reason, reason, step, share FROM rollout");
  for (; s.step(); s.next_row()) {
    const std::string model = s.text();
    RolloutRecord& r = records[model];
    const std::string phase = s.text();
    if (!parse_rollout_phase(phase))
      fail(ErrorCode::kIo, "The rollout journal holds a state that is none; move it away: {}: '{}'",
           impl_->options.path, phase);
    r.phase = *parse_rollout_phase(phase);
    r.live = s.number(), r.candidate = s.number(), r.candidate_sha256 = s.text(), r.override_reason = s.text();
    r.reason = s.text(), r.step = s.number(), r.share = s.number();
  }
  if (s.failed()) impl_->broken("read");
  return records;
}

std::vector<JournalEvent> Journal::history(const std::string& model, int64_t limit) const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<JournalEvent> events;
  Statement s(impl_->db,
              "SELECT id, at_ms, model, event, sentence, who, details FROM event WHERE model = ?1 OR ?1 = '' "
              "ORDER BY id DESC LIMIT ?2");
  s.bind(model).bind(limit);
  for (; s.step(); s.next_row()) {
    JournalEvent e;
    e.id = s.number(), e.at_ms = s.number(), e.model = s.text(), e.event = s.text(), e.sentence = s.text();
    e.who = s.text(), e.details = s.text();
    events.push_back(std::move(e));
  }
  if (s.failed()) impl_->broken("read");
  return events;
}

}  // namespace slipway
