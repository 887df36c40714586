#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "serve/model_version.h"
#include "serve/protocol.h"

namespace slipway {

/// Where a model's traffic goes. A value, swapped whole: requests see either the old one or the new one.
struct Routing {
  int64_t stable = 0;       ///< version; 0: nothing is live
  int64_t candidate = 0;    ///< version; 0: no rollout
  int candidate_share = 0;  ///< of 10,000
  bool operator==(const Routing&) const = default;
};

/// The bucket of 10,000 that a key falls into: the candidate gets those below its share, so raising it only adds users.
int sticky_bucket(std::string_view model, std::string_view key);

struct Target {
  std::shared_ptr<ModelVersion> version;
  Variant variant = Variant::kStable;
  std::shared_ptr<ModelVersion> live;  ///< beside a candidate: what the candidate must take, too
};

/// What those who watch (monitor, recorder) learn of each answered request; valid during the call only.
struct Served {
  const ModelVersion& version;
  Variant variant;
  const InferRequest& request;
  const InferResponse& response;
};

struct ServerOptions {
  std::string repository;         ///< empty: versions come by add() alone
  std::string program;            ///< whose verb `prepare` makes versions ready; empty: this process does, unprotected
  std::string cache_dir;          ///< plans built here; empty: none are kept
  bool explicit_control = false;  ///< load and unload are open to everyone who reaches the data ports
  bool allow_unverified = false;  ///< a version without proof may replace the bytes of one that is live
  bool tune = true;
  double time_after_seconds = 5;  ///< of computing at shapes that came with requests: then their candidates are timed
  bool allow_links = false;       ///< symbolic links in the repository may lead out of it
};

/// One line of the repository's index.
struct IndexEntry {
  std::string model;
  int64_t version = 0;  ///< 0: the model has no version yet
  std::string state;    ///< "READY", "LOADING", "UNAVAILABLE"
  std::string reason;
};

/// The models in memory and where their traffic goes; no transport. Loading makes a version warm, nothing more: only
/// route() makes one live, and only a rollout calls it. Thread-safe.
class Server {
 public:
  explicit Server(ServerOptions options);
  ~Server();

  /// load() for every model of the repository, two at once, each served as soon as it is loaded; one that can't be
  /// loaded leaves its reason in the index. Ends early when the process is to end or the server drains.
  void load_all();
  /// Loads what is new of a model and what changed on disk (bytes, report or configuration), highest version first; the
  /// rest is kept as it is, counters included. Fails as prepare_version() does, kNotFound: what was loaded before
  /// stays. A live version whose bytes changed without proof is refused (kVerificationFailed). Ends with kInterrupted
  /// when the process is to end or the server drains. With a version, only that one. Throws std::bad_alloc, too: what
  /// was loaded before stays.
  void load(const std::string& model, int64_t version = 0);
  /// Takes a model (or one version) out of service; requests that it has are answered. Waits for a load of that model.
  /// Fails with kNotFound.
  void unload(const std::string& model, int64_t version = 0);
  /// A version that did not come from the repository.
  void add(std::shared_ptr<ModelVersion> version);
  std::vector<IndexEntry> index() const;
  /// Versions of a model that are warm, ascending; of all models without a name.
  std::vector<std::shared_ptr<ModelVersion>> versions(std::string_view model = {}) const;
  std::vector<std::string> models() const;

  /// One atomic swap. Fails with kNotFound when a version is not loaded, kVerificationFailed when its bytes are not
  /// those of `sha256` (by version; those that are not named may be any).
  void route(const std::string& model, const Routing& routing, const std::map<int64_t, std::string>& sha256 = {});
  Routing routing(const std::string& model) const;

  /// The version that answers: the one named, else by the routing and `sticky` (at random when empty). Without a
  /// model's name, the only one. Fails with kNotFound, kInvalidArgument (a version that is no number), kOverloaded when
  /// draining or while the model is loading.
  Target target(std::string_view model, std::string_view version, std::string_view sticky) const;
  /// Answers through `done`, errors too; counts, and tells the observers. Throws std::bad_alloc when there is no memory
  /// to take the request in; `done` is not called then.
  void infer(const Target& target, InferRequest&& request, InferDone done);

  using Observer = std::function<void(const Served&)>;
  /// Before traffic starts. Called on the computing threads: must be quick.
  void observe(Observer observer);

  bool live() const { return true; }
  /// Every model of the repository has a live version (or none was asked for), and the server is not draining.
  bool ready() const;
  bool ready(std::string_view model, std::string_view version) const;
  /// No new requests from here on; returns when all are answered or `timeout_ms` has passed. True when all were.
  bool drain(int64_t timeout_ms);
  const ServerOptions& options() const;
  int64_t in_flight() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
