// The models in memory. Requests read one immutable table (models, versions, routing) that every change replaces whole;
// versions that left it are destroyed by a thread of their own once nobody has requests on them, never by a thread of
// theirs.
#include "serve/server.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <random>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/random.h"
#include "serve/prepare.h"
#include "serve/repository.h"
#include "serve/shape_timer.h"

namespace slipway {
namespace {

constexpr int kBuckets = 10'000;
constexpr auto kReapInterval = std::chrono::milliseconds(20);

struct ModelEntry {
  std::map<int64_t, std::shared_ptr<ModelVersion>> versions;
  Routing routing;
};
using Table = std::map<std::string, ModelEntry, std::less<>>;

const std::shared_ptr<ModelVersion>* find_version(const ModelEntry& entry, int64_t version) {
  const auto found = entry.versions.find(version);
  return found == entry.versions.end() ? nullptr : &found->second;
}

/// Requests that name no version are answered.
bool has_traffic(const Routing& routing) {
  return routing.stable != 0 || (routing.candidate != 0 && routing.candidate_share == kBuckets);
}

int64_t parse_version(std::string_view text) {
  int64_t version = 0;
  const auto end = text.data() + text.size();
  if (std::from_chars(text.data(), end, version) != std::from_chars_result{end, std::errc()} || version < 1)
    fail(ErrorCode::kInvalidArgument, "A version is a positive number: '{}'", text.substr(0, 32));
  return version;
}

int random_bucket() {
  thread_local Random random(std::random_device{}());
  return static_cast<int>(random.below(kBuckets));
}

std::string names_in(const Table& table) {
  std::string names;
  for (const auto& [name, entry] : table) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none" : names;
}

}  // namespace

int sticky_bucket(std::string_view model, std::string_view key) {
  const uint64_t hash = fnv1a(key.data(), key.size(), fnv1a(model.data(), model.size()));
  return static_cast<int>(Random(hash).next() % kBuckets);
}

struct Server::Impl {
  explicit Impl(ServerOptions o) : options(std::move(o)) {}

  std::shared_ptr<const Table> table() const {
    const std::lock_guard lock(table_mutex);
    return current;
  }
  /// Replaces the table by what `change` makes of a copy; versions that it drops are retired.
  template <typename Change>
  void change_table(const Change& change) {
    const std::lock_guard writers(change_mutex);
    auto next = std::make_shared<Table>(*table());
    change(*next);
    std::shared_ptr<const Table> old = std::move(next);
    {
      const std::lock_guard lock(table_mutex);
      current.swap(old);
    }
    for (const auto& [name, entry] : *old)
      for (const auto& [number, version] : entry.versions) {
        const auto now = table();
        const auto kept = now->find(name);
        const auto* same = kept == now->end() ? nullptr : find_version(kept->second, number);
        if (same == nullptr || *same != version) retire(version);
      }
  }
  void retire(std::shared_ptr<ModelVersion> version) {
    const std::lock_guard lock(reap_mutex);
    retired.push_back(std::move(version));
    reap.notify_one();
  }
  void run_reaper();
  /// Held by a load or unload of a model.
  std::unique_lock<std::mutex> change_of(const std::string& model) {
    std::mutex* changing = nullptr;
    {
      const std::lock_guard lock(load_mutex);
      changing = &loads[model];
    }
    return std::unique_lock(*changing);
  }
  std::shared_ptr<ModelVersion> loaded_version(const std::string& model, int64_t version) const {
    const auto now = table();
    const auto entry = now->find(model);
    const auto* found = entry == now->end() ? nullptr : find_version(entry->second, version);
    return found == nullptr ? nullptr : *found;
  }
  void load_version(const std::string& model, int64_t version);
  void replace(std::shared_ptr<ModelVersion> version);
  /// That `there` has no such version (0: no such model), and why, if the index knows. kOverloaded: it is loading.
  Error not_there(const Table& there, std::string_view model, int64_t version) const;
  void set_state(const std::string& model, int64_t version, std::string state, std::string reason) {
    const std::lock_guard lock(index_mutex);
    states[{model, version}] = {model, version, std::move(state), std::move(reason)};
  }
  /// That nothing of the model is loading any more, where there was no memory to say more.
  void end_loading(const std::string& model) noexcept {
    const std::lock_guard lock(index_mutex);
    for (auto& [key, entry] : states)
      if (key.first == model && entry.state == "LOADING") entry.state = "UNAVAILABLE";
  }

  ServerOptions options;
  std::mutex load_mutex;                    ///< of the next
  std::map<std::string, std::mutex> loads;  ///< by model: one load or unload at a time
  std::mutex here_mutex;                    ///< one preparation at a time in this process
  std::mutex change_mutex;                  ///< one writer of the table
  mutable std::mutex table_mutex;
  std::shared_ptr<const Table> current = std::make_shared<Table>();
  mutable std::mutex index_mutex;
  std::map<std::pair<std::string, int64_t>, IndexEntry> states;
  std::vector<Observer> observers;
  std::atomic<int64_t> in_flight{0};
  std::atomic<bool> draining{false};
  std::atomic<bool> loaded{options.repository.empty()};  ///< load_all() is through
  std::mutex idle_mutex;
  std::condition_variable idle;

  std::mutex reap_mutex;
  std::condition_variable reap;
  std::vector<std::shared_ptr<ModelVersion>> retired;
  bool stopping = false;
  std::thread reaper;
  std::unique_ptr<ShapeTimer> shape_timer;
};

void Server::Impl::run_reaper() {
  std::unique_lock lock(reap_mutex);
  while (!stopping) {
    if (retired.empty())
      reap.wait(lock);
    else
      reap.wait_for(lock, kReapInterval);
    while (!stopping) {
      const auto unused =
          std::find_if(retired.begin(), retired.end(), [](const auto& version) { return version.use_count() == 1; });
      if (unused == retired.end()) break;
      std::shared_ptr<ModelVersion> done = std::move(*unused);
      retired.erase(unused);
      lock.unlock();
      done.reset();
      lock.lock();
    }
  }
}

Error Server::Impl::not_there(const Table& there, std::string_view model, int64_t version) const {
  const std::string asked = fmt::format("'{}{}'", model.substr(0, 64), version == 0 ? "" : fmt::format("/{}", version));
  std::string why;
  {
    const std::lock_guard lock(index_mutex);
    for (const auto& [key, entry] : states) {
      if (key.first != model || entry.state == "READY" || (version != 0 && key.second != version)) continue;
      if (entry.state == "LOADING")
        return {ErrorCode::kOverloaded, fmt::format("The model is still being loaded; ask again soon: {}", asked)};
      why = entry.reason;
    }
  }
  if (!why.empty()) return {ErrorCode::kNotFound, fmt::format("The model is not loaded: {}: {}", asked, why)};
  if (there.contains(model)) return {ErrorCode::kNotFound, fmt::format("The model has no such version: {}", asked)};
  return {ErrorCode::kNotFound,
          fmt::format("The server has no such model; there are: {}; asked: {}", names_in(there), asked)};
}

Server::Server(ServerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  impl_->reaper = std::thread([impl = impl_.get()] { impl->run_reaper(); });
  if (impl_->options.tune && !impl_->options.program.empty())
    impl_->shape_timer = std::make_unique<ShapeTimer>(impl_->options, [this] { return versions(); });
}

Server::~Server() {
  drain(10'000);
  impl_->shape_timer.reset();
  {
    const std::lock_guard lock(impl_->reap_mutex);
    impl_->stopping = true;
  }
  impl_->reap.notify_all();
  impl_->reaper.join();
}

void Server::add(std::shared_ptr<ModelVersion> version) {
  const std::string model = version->model();
  const int64_t number = version->version();
  impl_->change_table([&](Table& table) { table[model].versions[number] = std::move(version); });
  impl_->set_state(model, number, "READY", "");
}

void Server::load_all() {
  const std::vector<std::string> models = repository_models(impl_->options.repository);
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < models.size(); i = next++) {
      try {
        load(models[i]);
      } catch (const Error& error) {
        if (error.code() == ErrorCode::kInterrupted) return;
        log_error("{}: {}", models[i], error.what());
      } catch (const std::exception& error) {
        log_error("{}: {}", models[i], error.what());
      }
    }
  };
  // One that takes long, or hangs until its time is over, must not keep all others waiting.
  std::thread second(work);
  work();
  second.join();
  impl_->loaded = !interrupted();
}

/// Puts a version into the table. Whether it would be live is asked there, where it changes: while it was prepared,
/// another one may have been promoted.
void Server::Impl::replace(std::shared_ptr<ModelVersion> version) {
  const std::string model = version->model();
  const int64_t number = version->version();
  change_table([&](Table& next) {
    ModelEntry& entry = next[model];
    const auto* old = find_version(entry, number);
    const bool is_live = entry.routing.stable == number || entry.routing.candidate == number;
    const VersionSource& source = version->source();
    if (old != nullptr && is_live && source.sha256 != (*old)->source().sha256 && source.proof != Proof::kPassed &&
        !options.allow_unverified)
      fail(ErrorCode::kVerificationFailed,
           "The bytes of a live version changed and nothing proves the new ones; publish them as a new version: {}/{}",
           model, number);
    entry.versions[number] = std::move(version);
  });
}

void Server::Impl::load_version(const std::string& model, int64_t number) {
  const auto old = loaded_version(model, number);
  const auto refuse = [&](const std::string& why) {
    set_state(model, number, old == nullptr ? "UNAVAILABLE" : "READY",
              old == nullptr ? why : "The last reload failed: " + why);
    log_error("{}/{}: {}", model, number, why);
  };
  try {
    const auto keep_going = [&] { return !draining && !interrupted(); };
    if (!keep_going()) fail(ErrorCode::kInterrupted, "The server is shutting down.");
    std::unique_lock here(here_mutex, std::defer_lock);
    if (options.program.empty()) here.lock();
    auto source = prepare_version(options, model, number, old == nullptr ? nullptr : &old->source(), keep_going);
    if (source) {
      replace(std::make_shared<ModelVersion>(*std::move(source)));
      log_info("{}/{} is warm", model, number);
    }
    set_state(model, number, "READY", "");
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted)
      set_state(model, number, old == nullptr ? "UNAVAILABLE" : "READY", error.what());
    else
      refuse(error.what());
    throw;
  } catch (const std::bad_alloc&) {
    const Error error(ErrorCode::kOutOfMemory, "There is not enough memory left to load it beside the others.");
    refuse(error.what());
    throw error;
  } catch (const std::exception& error) {
    refuse(error.what());
    throw Error(ErrorCode::kInternal, error.what());
  }
}

void Server::load(const std::string& model, int64_t version) try {
  const std::string& repository = impl_->options.repository;
  const std::vector<std::string> known =
      repository.empty() ? std::vector<std::string>() : repository_models(repository);
  if (std::find(known.begin(), known.end(), model) == known.end())
    fail(ErrorCode::kNotFound, "The repository has no such model: '{}'", model.substr(0, 64));
  const auto loading = impl_->change_of(model);
  const std::vector<int64_t> numbers = repository_versions(repository, model);
  if (version != 0) {
    if (std::find(numbers.begin(), numbers.end(), version) == numbers.end())
      fail(ErrorCode::kNotFound, "The model has no such version; publish it as NAME/VERSION/model.onnx: '{}/{}'",
           model.substr(0, 64), version);
    if (impl_->loaded_version(model, version) == nullptr) impl_->set_state(model, version, "LOADING", "");
    return impl_->load_version(model, version);
  }
  if (numbers.empty()) {
    impl_->set_state(model, 0, "UNAVAILABLE", "There is no version folder with a model.onnx.");
    fail(ErrorCode::kNotFound, "The model has no version; put one at {}/1/model.onnx", model);
  }
  for (const int64_t number : numbers)
    if (impl_->loaded_version(model, number) == nullptr) impl_->set_state(model, number, "LOADING", "");
  std::optional<Error> failure;
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {  // the live one is rarely the oldest
    try {
      impl_->load_version(model, *number);
    } catch (const Error& error) {
      if (!failure) failure = error;
    }
  }
  // Versions that are gone from disk leave, unless traffic goes to them.
  impl_->change_table([&](Table& table) {
    const auto entry = table.find(model);
    if (entry == table.end()) return;
    std::erase_if(entry->second.versions, [&](const auto& v) {
      const Routing& r = entry->second.routing;
      return v.first != r.stable && v.first != r.candidate &&
             std::find(numbers.begin(), numbers.end(), v.first) == numbers.end();
    });
  });
  {
    const std::lock_guard lock(impl_->index_mutex);
    std::erase_if(impl_->states, [&](const auto& state) {
      const auto& [name, number] = state.first;
      return name == model && std::find(numbers.begin(), numbers.end(), number) == numbers.end() &&
             state.second.state != "READY";
    });
  }
  if (failure) throw *failure;
} catch (const std::bad_alloc&) {
  impl_->end_loading(model);
  throw;
}

void Server::unload(const std::string& model, int64_t version) {
  {
    const std::lock_guard lock(impl_->index_mutex);
    const auto known = impl_->states.lower_bound({model, 0});
    if (known == impl_->states.end() || known->first.first != model)
      fail(ErrorCode::kNotFound, "The model is not loaded: '{}'", model.substr(0, 64));
  }
  const auto unloading = impl_->change_of(model);
  bool found = false;
  std::vector<int64_t> gone;
  impl_->change_table([&](Table& table) {
    const auto entry = table.find(model);
    if (entry == table.end()) return;
    for (const auto& [number, loaded] : entry->second.versions)
      if (version == 0 || number == version) gone.push_back(number);
    found = !gone.empty();
    Routing& routing = entry->second.routing;
    for (const int64_t number : gone) {
      entry->second.versions.erase(number);
      if (routing.candidate == number) routing.candidate = 0, routing.candidate_share = 0;
      if (routing.stable == number) routing.stable = 0;
    }
    if (entry->second.versions.empty()) table.erase(entry);
  });
  if (!found) fail(ErrorCode::kNotFound, "The model is not loaded: '{}'", model.substr(0, 64));
  for (const int64_t number : gone) impl_->set_state(model, number, "UNAVAILABLE", "unloaded");
}

std::vector<IndexEntry> Server::index() const {
  const std::lock_guard lock(impl_->index_mutex);
  std::vector<IndexEntry> entries;
  for (const auto& [key, entry] : impl_->states) entries.push_back(entry);
  return entries;
}

std::vector<std::shared_ptr<ModelVersion>> Server::versions(std::string_view model) const {
  std::vector<std::shared_ptr<ModelVersion>> all;
  for (const auto table = impl_->table(); const auto& [name, entry] : *table)
    if (model.empty() || name == model)
      for (const auto& [number, version] : entry.versions) all.push_back(version);
  return all;
}

std::vector<std::string> Server::models() const {
  std::vector<std::string> names;
  for (const auto table = impl_->table(); const auto& [name, entry] : *table) names.push_back(name);
  return names;
}

void Server::route(const std::string& model, const Routing& routing, const std::map<int64_t, std::string>& sha256) {
  SLIPWAY_CHECK(routing.candidate_share >= 0 && routing.candidate_share <= kBuckets);
  impl_->change_table([&](Table& table) {
    const auto entry = table.find(model);
    for (const int64_t version : {routing.stable, routing.candidate}) {
      if (version == 0) continue;
      const auto* found = entry == table.end() ? nullptr : find_version(entry->second, version);
      if (found == nullptr) fail(ErrorCode::kNotFound, "The version is not loaded: {}/{}", model, version);
      const auto bytes = sha256.find(version);
      if (bytes != sha256.end() && (*found)->source().sha256 != bytes->second)
        fail(ErrorCode::kVerificationFailed, "Other bytes were loaded meanwhile under this version's number: {}/{}",
             model, version);
    }
    if (entry != table.end()) entry->second.routing = routing;
  });
}

Routing Server::routing(const std::string& model) const {
  const auto table = impl_->table();
  const auto entry = table->find(model);
  return entry == table->end() ? Routing() : entry->second.routing;
}

Target Server::target(std::string_view model, std::string_view version, std::string_view sticky) const {
  if (impl_->draining) fail(ErrorCode::kOverloaded, "The server is shutting down; ask another one.");
  const auto table = impl_->table();
  if (model.empty() && table->empty())
    if (const std::vector<IndexEntry> known = index(); !known.empty())
      throw impl_->not_there(*table, known.front().model, 0);
  if (model.empty() && table->size() != 1)
    fail(ErrorCode::kInvalidArgument,
         "The model must be named (/predict?model=NAME), for the server has not exactly one; there are: {}",
         names_in(*table));
  const auto entry = model.empty() ? table->begin() : table->find(model);
  const int64_t number = version.empty() ? 0 : parse_version(version);
  if (entry == table->end()) throw impl_->not_there(*table, model, number);
  const auto& [name, loaded] = *entry;
  if (number != 0) {
    const auto* pinned = find_version(loaded, number);
    if (pinned == nullptr) throw impl_->not_there(*table, name, number);
    return {*pinned, Variant::kPinned};
  }
  const Routing& routing = loaded.routing;
  const auto* stable = find_version(loaded, routing.stable);
  if (routing.candidate != 0 && routing.candidate_share > 0 &&
      (sticky.empty() ? random_bucket() : sticky_bucket(name, sticky)) < routing.candidate_share)
    return {*find_version(loaded, routing.candidate), Variant::kCandidate, stable == nullptr ? nullptr : *stable};
  if (stable == nullptr)
    fail(ErrorCode::kNotFound, "No version of the model is live; promote one by a rollout, or name a version: '{}'",
         name);
  return {*stable, Variant::kStable};
}

void Server::infer(const Target& target, InferRequest&& request, InferDone done) {
  impl_->in_flight.fetch_add(1);
  if (request.arrival_ns == 0) request.arrival_ns = now_ns();
  if (request.deadline_ns == 0 && target.version->config().timeout_ms > 0)
    request.deadline_ns = request.arrival_ns + target.version->config().timeout_ms * 1'000'000;
  const auto leave = [impl = impl_.get()] {
    // Under the lock: once nothing is in flight the server may be destroyed.
    const std::lock_guard lock(impl->idle_mutex);
    if (impl->in_flight.fetch_sub(1) == 1) impl->idle.notify_all();
  };
  ModelVersion& version = *target.version;
  try {
    version.submit(
        std::move(request), target.variant,
        [this, leave, target = Target{target.version, target.variant, nullptr}, done = std::move(done)](
            const InferRequest& asked, InferResponse&& response) mutable {
          for (const Observer& observe : impl_->observers) observe({*target.version, target.variant, asked, response});
          done(std::move(response));
          // Before it leaves: the server may be destroyed then and the version with it, which must not be by the last
          // hands of a thread of its own.
          target.version.reset();
          leave();
        },
        target.live.get());
  } catch (...) {
    leave();
    throw;
  }
}

void Server::observe(Observer observer) { impl_->observers.push_back(std::move(observer)); }

bool Server::ready() const {
  if (impl_->draining || !impl_->loaded) return false;
  {
    const std::lock_guard lock(impl_->index_mutex);
    for (const auto& [key, entry] : impl_->states)
      if (entry.state == "LOADING") return false;
  }
  const auto table = impl_->table();
  return std::all_of(table->begin(), table->end(), [](const auto& entry) { return has_traffic(entry.second.routing); });
}

bool Server::ready(std::string_view model, std::string_view version) const {
  if (impl_->draining) return false;
  const auto table = impl_->table();
  const auto entry = table->find(model);
  const int64_t number = version.empty() ? 0 : parse_version(version);
  if (entry != table->end() && number == 0) return has_traffic(entry->second.routing);
  if (entry != table->end() && find_version(entry->second, number) != nullptr) return true;
  const Error why = impl_->not_there(*table, model, number);
  if (why.code() == ErrorCode::kOverloaded) return false;
  throw why;
}

bool Server::drain(int64_t timeout_ms) {
  impl_->draining = true;
  std::unique_lock lock(impl_->idle_mutex);
  return impl_->idle.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return impl_->in_flight == 0; });
}

const ServerOptions& Server::options() const { return impl_->options; }
int64_t Server::in_flight() const { return impl_->in_flight; }

}  // namespace slipway
