// Timing of candidates on this machine with the real shapes, weights and threads, and the cache of results on disk:
// JSON, [microseconds, family, work] by digest.
#include "engine/tune/timing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "engine/lower/lower.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr int64_t kBudgetNs = 3'000'000;
constexpr int kMaxRuns = 15, kMinRuns = 3;

double fastest_us(const std::function<void()>& run) {
  run();
  int64_t best = std::numeric_limits<int64_t>::max(), spent = 0;
  for (int i = 0; i < kMaxRuns && (i < kMinRuns || spent < kBudgetNs); ++i) {
    const int64_t start = now_ns();
    run();
    const int64_t took = now_ns() - start;
    best = std::min(best, took);
    spent += took;
  }
  return static_cast<double>(best) * 1e-3;
}

// Small positive floats, so that nothing becomes denormal or NaN on the way.
AlignedBytes random_buffer(size_t bytes, DType dtype, Random& random) {
  AlignedBytes buffer = allocate_aligned(bytes);
  if (dtype == DType::kFloat32) {
    auto* f = reinterpret_cast<float*>(buffer.get());
    for (size_t i = 0; i < bytes / sizeof(float); ++i) f[i] = static_cast<float>(random.uniform());
  } else if (dtype == DType::kInt8 || dtype == DType::kUint8) {
    for (size_t i = 0; i < bytes; ++i) buffer[i] = static_cast<std::byte>(random.below(128));
  } else {
    std::fill_n(buffer.get(), bytes, std::byte{0});
  }
  return buffer;
}

// Buffers for one run of a candidate. `shifted`: plain ones begin one element behind an aligned address.
struct Operands {
  Operands(const LowerContext& step, const Candidate& candidate, bool shifted) {
    Random random(7);
    const auto add = [&](Layout layout, DType dtype, const Dims& dims) {
      const size_t shift = shifted && layout == Layout::kPlain ? bytes_of(dtype, 1) : 0;
      buffers.push_back(random_buffer(layout_bytes(layout, dtype, dims) + shift, dtype, random));
      return buffers.back().get() + shift;
    };
    for (size_t i = 0; i < candidate.inputs.size(); ++i) {
      const bool used = i < step.node.inputs.size() && step.has_input(i) && !step.is_constant(i);
      inputs.push_back(used ? add(candidate.inputs[i], step.input_dtype(i), step.input_dims(i)) : nullptr);
    }
    for (size_t i = 0; i < candidate.outputs.size(); ++i) {
      const bool used = step.node.outputs[i] != kNoValue;
      outputs.push_back(used ? add(candidate.outputs[i], step.output_dtype(i), step.output_dims(i)) : nullptr);
    }
    if (candidate.inplace_input >= 0 && inputs[static_cast<size_t>(candidate.inplace_input)] != nullptr)
      outputs[0] = const_cast<void*>(inputs[static_cast<size_t>(candidate.inplace_input)]);
  }
  std::vector<AlignedBytes> buffers;
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
};

std::string describe(const Attributes& attributes) {
  std::string text;
  for (const auto& [name, value] : attributes) {
    text += " " + name + "=";
    if (const auto* i = std::get_if<int64_t>(&value))
      text += std::to_string(*i);
    else if (const auto* f = std::get_if<float>(&value))
      text += fmt::format("{}", *f);
    else if (const auto* s = std::get_if<std::string>(&value))
      text += *s;
    else if (const auto* list = std::get_if<std::vector<int64_t>>(&value))
      text += to_string(std::span<const int64_t>(*list));
  }
  return text;
}

}  // namespace

void TimingCache::Times::add(const std::string& digest, const Time& time) {
  by_digest[digest] = time;
  if (time.us >= 0 && time.work > 0) by_family[time.family][time.work] = time.us;
}

// A program reads the file for every shape that it prepares, so what was read last is kept while the file is the same.
std::shared_ptr<const TimingCache::Times> TimingCache::read(const std::string& path) {
  static const auto none = std::make_shared<const Times>();
  if (path.empty() || !file_exists(path)) return none;
  static std::mutex mutex;
  static std::string last_path, last_state;
  static std::shared_ptr<const Times> last;
  const std::lock_guard lock(mutex);
  const std::string state = file_state(path);
  if (path == last_path && state == last_state) return last;
  auto times = std::make_shared<Times>();
  const auto json = nlohmann::json::parse(read_text_file(path), nullptr, false);
  if (json.is_object())
    for (const auto& [digest, time] : json.items())
      if (time.is_array() && time.size() == 3 && time[0].is_number() && time[1].is_string() && time[2].is_number())
        times->add(digest, {time[0], time[1], time[2]});
  last_path = path;
  last_state = state;
  return last = std::move(times);
}

TimingCache::TimingCache(const std::string& path) : path_(path), times_(read(path)) {}

std::optional<double> TimingCache::find(const std::string& digest) const {
  if (const auto it = added_.find(digest); it != added_.end()) return it->second.us;
  const auto it = times_->by_digest.find(digest);
  return it == times_->by_digest.end() ? std::nullopt : std::optional(it->second.us);
}

std::optional<double> TimingCache::estimate(const TimingKey& key) const {
  if (const auto exact = find(key.digest)) return exact;
  const auto family = times_->by_family.find(key.family);
  if (family == times_->by_family.end() || !(key.work > 0)) return std::nullopt;
  const auto& [work, us] = *std::min_element(family->second.begin(), family->second.end(), [&](auto& a, auto& b) {
    return std::abs(std::log(a.first / key.work)) < std::abs(std::log(b.first / key.work));
  });
  return us * key.work / work;
}

void TimingCache::add(const TimingKey& key, double time_us) { added_[key.digest] = {time_us, key.family, key.work}; }

void TimingCache::save() {
  if (path_.empty() || added_.empty()) return;
  try {
    nlohmann::json json = nlohmann::json::object();
    const auto put = [&](const auto& times) {
      for (const auto& [digest, time] : times) json[digest] = {time.us, time.family, time.work};
    };
    put(read(path_)->by_digest);  // another process may have added to it
    put(added_);
    make_folders(parent_folder(path_));
    write_file(path_, json.dump(1));
    added_.clear();
    times_ = read(path_);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kIo) throw;
  }
}

TimingKey timing_key(const LowerContext& c, const Candidate& candidate) {
  const auto describe_step = [&](bool sizes) {
    std::string text = fmt::format("{}.{}{}", c.node.domain, c.node.op_type, describe(c.node.attributes));
    for (size_t i = 0; i < c.node.inputs.size(); ++i)
      if (c.has_input(i))
        text += fmt::format(" {}{}{}{}", to_string(c.input_dtype(i)),
                            sizes || c.is_constant(i) ? to_string(c.input_dims(i)) : "", c.is_constant(i) ? "c" : "",
                            to_string(candidate.inputs[i]));
    const std::string variant = sizes ? candidate.variant : candidate.variant.substr(0, candidate.variant.find('|'));
    return text + fmt::format(" -> {} {} {} t{} {} {} dnnl{}", to_string(candidate.outputs.at(0)), candidate.tactic,
                              variant, c.threads, cpu_name(), to_string(cpu_features()), onednn_version());
  };
  const auto digest = [](const std::string& text) { return sha256_hex(text).substr(0, 24); };
  const Cost cost = cost_of(c.graph, c.node);
  return {digest(describe_step(true)), digest(describe_step(false)), cost.flops + cost.bytes};
}

double time_candidate(const LowerContext& build, const LowerContext& step, const Candidate& candidate) {
  const Tactic& tactic = tactic_named(candidate.tactic);
  std::vector<Blob> blobs;
  if (tactic.pack != nullptr) blobs = tactic.pack(build, candidate);
  std::vector<BlobView> views;
  for (const Blob& blob : blobs) views.emplace_back(blob.data.get(), blob.bytes);
  const auto kernel = tactic.create(step, candidate, views);
  const AlignedBytes scratch = allocate_aligned(kernel->scratch_bytes());
  const auto state = kernel->make_state();
  // What is plain may be the caller's, which lies anywhere: the first run must bear that.
  Operands shifted(step, candidate, true);
  kernel->run({shifted.inputs.data(), shifted.outputs.data(), scratch.get(), state.get(), step.threads});
  Operands operands(step, candidate, false);
  const KernelArgs args{operands.inputs.data(), operands.outputs.data(), scratch.get(), state.get(), step.threads};
  return fastest_us([&] { kernel->run(args); });
}

double time_layout_change(Layout from, Layout to, DType dtype, const Dims& dims, int threads) {
  const AlignedBytes a = allocate_aligned(layout_bytes(from, dtype, dims)),
                     b = allocate_aligned(layout_bytes(to, dtype, dims));
  std::fill_n(a.get(), layout_bytes(from, dtype, dims), std::byte{0});
  return fastest_us([&] { convert_layout(from, a.get(), to, b.get(), dtype, dims, threads); });
}

}  // namespace slipway
