#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rollout/controller.h"

namespace slipway {

/// Which version of a model is live, and why it may be.
struct LiveRecord {
  int64_t version = 0;
  std::string sha256;           ///< of the model (ModelIdentity)
  std::string override_reason;  ///< empty: it was verified
  bool taken_back = false;      ///< it lost its traffic to one that was live before it, and was not raised again
};

/// The last rollout of a model, as far as a restart needs it.
struct RolloutRecord {
  RolloutPhase phase = RolloutPhase::kIdle;
  int64_t live = 0, candidate = 0;
  std::string candidate_sha256, override_reason, reason;
  int64_t step = 0, share = 0;  ///< share of 10,000
};

/// One line of the history; nothing ever changes or removes one.
struct JournalEvent {
  int64_t id = 0, at_ms = 0;  ///< since the epoch
  std::string model, event, sentence;
  std::string who;      ///< empty: Slipway itself
  std::string details;  ///< JSON: the verdicts' numbers
};

struct JournalOptions {
  std::string path;                      ///< ":memory:" for none
  int64_t max_bytes = 0;                 ///< of the file; 0: as the disk allows
  std::function<void()> at_commit = {};  ///< called before and after each transaction: where tests pull the plug
};

/// What must survive: live versions, rollouts and their history, in SQLite (WAL, synchronous=FULL). write() is one
/// transaction: all of it or nothing. One process at a time. Thread-safe.
class Journal {
 public:
  /// Makes the file and its folder. Fails with kIo naming the path: not writable, no journal, in use by another server.
  explicit Journal(JournalOptions options);
  ~Journal();

  struct Change {
    std::string model;
    std::optional<LiveRecord> live = std::nullopt;  ///< from now on
    bool taken_back = false;                        ///< `live` was live before: what came after it is taken back
    std::optional<RolloutRecord> rollout = std::nullopt;
    std::vector<JournalEvent> events = {};
  };
  /// Fails with kIo (a full disk, …): then nothing of it is there, unless the disk broke while it was made durable.
  void write(const Change& change);

  /// The versions that a model had live, each once: the live one, those that were live before it, newest first, then
  /// those that were taken back. Empty: it never had one.
  std::vector<LiveRecord> live(const std::string& model) const;
  std::map<std::string, RolloutRecord> rollouts() const;
  /// Newest first; of all models without a name.
  std::vector<JournalEvent> history(const std::string& model, int64_t limit) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
