// Plans on disk. The file is
//
//   "SLIPPLAN" · u32 version · u32 reserved · u64 header bytes · u64 model bytes · u64 blob bytes
//   header (JSON: ports, steps with the node alone as text, tactic, layouts, places, blobs)
//   64 digits each: BlockDigest of the model, of the blobs; SHA-256 of everything before it
//   the original model as ONNX (for rebuilding; read through when the plan is opened, not kept)
//   blobs, each 64-byte aligned in the file
//
// Every byte is under one of the three digests: the model's goes on to where the blobs begin, with the padding on both
// sides. The bytes are untrusted: every offset and size is checked against the file and against what the kernels,
// created anew, need. Third-party structs are never stored. Which tensors a run must measure (guards) is taken from the
// header: it follows from the weights as they were before packing, and whoever could change it could change the
// weights.
#include "engine/plan_file.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/block_digest.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file_reader.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "engine/lower/step_graph.h"
#include "engine/plan_impl.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr char kMagic[8] = {'S', 'L', 'I', 'P', 'P', 'L', 'A', 'N'};
constexpr uint32_t kVersion = 3;
constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 40;
constexpr size_t kDigestDigits = 64;
constexpr uint64_t kReadBytes = 256 * 1024;  // stays in the second-level cache between reading and digesting

struct Preamble {
  char magic[8];
  uint32_t version, reserved;
  uint64_t header_bytes, model_bytes, blob_bytes;
};

[[noreturn]] void fail_damaged(const std::string& path, std::string_view what) {
  fail(ErrorCode::kInvalidModel, "The plan file is damaged; build it again with `slipway build`: {} ({})", path, what);
}

uint64_t digests_offset(const Preamble& p) { return sizeof(Preamble) + p.header_bytes; }
uint64_t digests_end(const Preamble& p) { return digests_offset(p) + 3 * kDigestDigits; }
uint64_t model_offset(const Preamble& p) { return round_up(digests_end(p), kAlignment); }
uint64_t blob_offset(const Preamble& p) { return round_up(model_offset(p) + p.model_bytes, kAlignment); }

/// A plan's file with its front read and checked.
struct OpenedFile {
  FileReader file;
  const std::string& path;
  Preamble preamble{};
  std::string header, model_digest, blob_digest, front_digest;

  explicit OpenedFile(const std::string& name) : file(name), path(name) {
    Preamble& p = preamble;
    const uint64_t size = file.size();
    if (size < sizeof p) fail_damaged(path, "too short");
    file.read(0, &p, sizeof p);
    if (std::memcmp(p.magic, kMagic, sizeof kMagic) != 0) fail_damaged(path, "not a plan");
    if (p.version != kVersion)
      fail(ErrorCode::kUnsupported,
           "The plan was made by another version of Slipway; build it again with `slipway build`: {} (format {})", path,
           p.version);
    if (p.header_bytes > kMaxHeaderBytes || p.header_bytes > size || p.model_bytes > size || p.blob_bytes > size ||
        blob_offset(p) + p.blob_bytes != size)
      fail_damaged(path, "its sections do not add up to its size");
    std::string front(digests_end(p), '\0');
    file.read(0, front.data(), front.size());
    const auto digest = [&](size_t i) { return front.substr(digests_offset(p) + i * kDigestDigits, kDigestDigits); };
    if (std::memcmp(front.data(), &p, sizeof p) != 0 ||
        sha256_hex(std::string_view(front).substr(0, front.size() - kDigestDigits)) != digest(2))
      fail_damaged(path, "its header's digest differs");
    model_digest = digest(0), blob_digest = digest(1), front_digest = digest(2);
    header = front.substr(sizeof p, p.header_bytes);
  }

  /// Reads [begin, end) into `to`, or only through it where that is null, and compares its digest.
  void read(uint64_t begin, uint64_t end, std::byte* to, const std::string& digest) const {
    std::vector<std::byte> passing(to == nullptr ? kReadBytes : 0);
    BlockDigest found;
    for (uint64_t at = begin; at < end;) {
      const auto bytes = static_cast<size_t>(std::min(kReadBytes, end - at));
      std::byte* block = to == nullptr ? passing.data() : to + (at - begin);
      file.read(at, block, bytes);
      found.add(block, bytes);
      at += bytes;
    }
    if (found.hex() != digest) fail_damaged(path, "the digest of its model or weights differs");
  }
  AlignedBytes read_blobs() const {
    AlignedBytes blobs = allocate_large(preamble.blob_bytes);
    read(blob_offset(preamble), file.size(), blobs.get(), blob_digest);
    return blobs;
  }
  void check_model() const { read(digests_end(preamble), blob_offset(preamble), nullptr, model_digest); }
  Graph model() const {
    const uint64_t begin = digests_end(preamble), end = blob_offset(preamble);
    const AlignedBytes section = allocate_large(end - begin);
    read(begin, end, section.get(), model_digest);
    return parse_onnx({section.get() + (model_offset(preamble) - begin), preamble.model_bytes});
  }
};

json to_json(const std::vector<PortInfo>& ports) {
  json list = json::array();
  for (const PortInfo& port : ports)
    list.push_back({{"name", port.name}, {"dtype", to_string(port.dtype)}, {"dims", port.dims}});
  return list;
}

std::vector<PortInfo> ports_from(const json& list) {
  std::vector<PortInfo> ports;
  for (const json& item : list) {
    PortInfo port{item.at("name"), parse_dtype(item.at("dtype").get<std::string>()), item.at("dims")};
    element_count(port.dims);
    ports.push_back(std::move(port));
  }
  return ports;
}

json to_json(const std::vector<Place>& places) {
  json list = json::array();
  for (const Place& place : places) list.push_back({static_cast<int>(place.kind), place.at});
  return list;
}

std::vector<Layout> layouts_from(const json& list) {
  std::vector<Layout> layouts;
  for (const json& item : list) layouts.push_back(parse_layout(item.get<std::string>()));
  return layouts;
}

json to_json(const std::vector<Layout>& layouts) {
  json list = json::array();
  for (Layout layout : layouts) list.push_back(to_string(layout));
  return list;
}

// Places, each checked to hold the value's bytes: in the arena, or as the whole of a port.
std::vector<Place> places_from(const json& list, std::span<const ValueId> values, std::span<const Layout> layouts,
                               const Graph& graph, const Plan::Impl& plan) {
  std::vector<Place> places;
  for (size_t i = 0; i < list.size(); ++i) {
    const int kind = list[i].at(0);
    const Place place{static_cast<Place::Kind>(kind), list[i].at(1)};
    if (kind < Place::kNone || kind > Place::kOutput || i >= values.size())
      fail(ErrorCode::kInvalidModel, "a place is out of range");
    if (place.kind != Place::kNone) {
      if (values[i] == kNoValue) fail(ErrorCode::kInvalidModel, "a place without a value");
      const Value& v = graph.value(values[i]);
      if (!v.shape.is_static() || bits_of(v.dtype) == 0)
        fail(ErrorCode::kInvalidModel, "a step's value has no fixed shape");
      const Layout layout = i < layouts.size() ? layouts[i] : Layout::kPlain;
      const Dims dims = v.shape.to_dims();
      if (!layout_fits(layout, dims)) fail(ErrorCode::kInvalidModel, "a layout does not fit its value");
      const uint64_t bytes = layout_bytes(layout, v.dtype, dims);
      const auto& ports = place.kind == Place::kInput ? plan.inputs : plan.outputs;
      const uint64_t room =
          place.kind == Place::kArena ? (place.at > plan.memory.arena_bytes ? 0 : plan.memory.arena_bytes - place.at)
          : place.at >= ports.size()  ? 0
                                      : bytes_of(ports[place.at].dtype, element_count(ports[place.at].dims));
      if (bytes > room) fail(ErrorCode::kInvalidModel, "a step reaches outside its buffers");
      if (place.kind == Place::kArena && place.at % kAlignment != 0)
        fail(ErrorCode::kInvalidModel, "a step's buffer is not aligned");
    }
    places.push_back(place);
  }
  if (places.size() != values.size()) fail(ErrorCode::kInvalidModel, "a step's operands are incomplete");
  return places;
}

void require_cpu(const std::string& path, const std::string& needed) {
  const std::string have = to_string(cpu_features());
  for (size_t at = 0; at < needed.size();) {
    const size_t end = std::min(needed.find(' ', at), needed.size());
    const std::string feature = needed.substr(at, end - at);
    if (feature != "baseline" && (" " + have + " ").find(" " + feature + " ") == std::string::npos)
      fail(ErrorCode::kUnsupported,
           "The plan needs a CPU feature that this one lacks; build it again here with `slipway build`: {} needs {}, "
           "this CPU has {}",
           path, feature, have);
    at = end + 1;
  }
}

// The node must be one that its operator allows, with the outputs that follow from its inputs.
void require_sound(const Graph& graph, const Node& node) {
  verify(graph);
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (!v.shape.is_static() || bits_of(v.dtype) == 0)
      fail(ErrorCode::kInvalidModel, "a step's value has no fixed shape");
    element_count(v.shape.to_dims());
  }
  Graph inferred = graph;
  for (ValueId id : node.outputs)
    if (id != kNoValue) inferred.set_type(id, DType::kUndefined, Shape());
  infer_shapes(inferred);
  for (ValueId id : node.outputs) {
    if (id == kNoValue) continue;
    const Value &said = graph.value(id), &follows = inferred.value(id);
    bool fits = !follows.shape.has_rank() || follows.shape.rank() == said.shape.rank();
    for (size_t i = 0; fits && i < follows.shape.rank(); ++i)
      fits = !follows.shape[i].is_known() || follows.shape[i] == said.shape[i];
    if (!fits || (follows.dtype != DType::kUndefined && follows.dtype != said.dtype))
      fail(ErrorCode::kInvalidModel, "a step's output does not follow from its inputs");
  }
}

// A kernel reads at run time what is no constant, and convolutions have weights and bias packed.
void require_constants_fit(const PlanStep& step, const Node& node) {
  const LowerContext context{step.graph, node, 1, step.constant_inputs};
  const std::string& name = step.candidate.tactic;
  bool fits = !misplaced_constant(tactic_named(name), context);
  if (name == "onednn_conv" || name == "int8_conv")
    fits = fits && context.is_constant(1) && context.is_constant(2) == node.has_input(2);
  if (!fits) fail(ErrorCode::kInvalidModel, "a step's constants are not those that its kernel has");
}

PlanStep step_from(const json& item, std::span<const std::byte> blobs, const Plan::Impl& plan) {
  PlanStep step;
  step.graph = parse_text(item.at("node").get<std::string>());
  const Node& node = step_node(step.graph);
  step.candidate = {.tactic = item.at("tactic"),
                    .variant = item.at("variant"),
                    .inputs = layouts_from(item.at("in")),
                    .outputs = layouts_from(item.at("out"))};
  step.candidate.inplace_input = item.at("inplace");
  step.candidate.view = item.at("view");
  step.constant_inputs = item.at("constants").get<std::vector<bool>>();
  step.time_us = item.at("time_us");
  std::vector<ValueId> operands = node.inputs;
  operands.insert(operands.end(), node.captures.begin(), node.captures.end());
  if (step.constant_inputs.size() != operands.size() || step.candidate.outputs.size() != node.outputs.size() ||
      step.candidate.inputs.size() != node.inputs.size() || node.outputs.empty() ||
      step.candidate.inplace_input >= static_cast<int>(operands.size()))
    fail(ErrorCode::kInvalidModel, "a step's operands are incomplete");
  require_sound(step.graph, node);
  require_constants_fit(step, node);
  step.inputs = places_from(item.at("reads"), operands, step.candidate.inputs, step.graph, plan);
  step.outputs = places_from(item.at("writes"), node.outputs, step.candidate.outputs, step.graph, plan);
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (step.outputs[i].kind == Place::kInput ||
        (step.outputs[i].kind == Place::kNone) != (node.outputs[i] == kNoValue))
      fail(ErrorCode::kInvalidModel, "a step writes to an input or nowhere");
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands[i] != kNoValue && (step.inputs[i].kind == Place::kNone) != step.constant_inputs[i])
      fail(ErrorCode::kInvalidModel, "a step's input has no place");
  step.guards = item.at("guards").get<std::vector<int>>();
  step.faithful = item.at("faithful");
  for (int i : step.guards)
    if (i < 0 || static_cast<size_t>(i) >= node.inputs.size() ||
        step.inputs[static_cast<size_t>(i)].kind == Place::kNone ||
        step.graph.value(node.inputs[static_cast<size_t>(i)]).dtype != DType::kFloat32)
      fail(ErrorCode::kInvalidModel, "a step's guard has nothing to measure");
  for (const json& b : item.at("blobs")) {
    const uint64_t offset = b.at(0), bytes = b.at(1);
    if (offset % kAlignment != 0 || offset > blobs.size() || bytes > blobs.size() - offset)
      fail(ErrorCode::kInvalidModel, "a blob lies outside the file");
    step.blobs.push_back(blobs.subspan(offset, bytes));
  }
  return step;
}

}  // namespace

bool Plan::is_plan_file(const std::string& path) {
  if (!file_exists(path)) return false;
  const FileReader file(path);
  char magic[sizeof kMagic];
  if (file.size() < sizeof(Preamble)) return false;
  file.read(0, magic, sizeof magic);
  return std::memcmp(magic, kMagic, sizeof kMagic) == 0;
}

Graph Plan::graph_of(const std::string& path) { return OpenedFile(path).model(); }

void Plan::save(const std::string& path) const {
  const Impl& p = *impl_;
  if (p.model.empty())
    fail(ErrorCode::kInvalidArgument,
         "An opened plan does not hold the model that it was built from; copy its file: {}", path);
  json header = {{"inputs", to_json(p.inputs)},
                 {"outputs", to_json(p.outputs)},
                 {"threads", p.threads},
                 {"cpu", p.cpu},
                 {"onednn", p.onednn},
                 {"metadata", p.metadata},
                 {"arena_bytes", p.memory.arena_bytes},
                 {"lower_bound_bytes", p.memory.lower_bound_bytes},
                 {"unshared_bytes", p.memory.unshared_bytes}};
  uint64_t at = 0;
  json steps = json::array();
  for (const PlanStep& step : p.steps) {
    json blobs = json::array();
    for (BlobView blob : step.blobs) {
      blobs.push_back({at, blob.size()});
      at = round_up(at + blob.size(), kAlignment);
    }
    steps.push_back({{"node", to_text(step.graph)},
                     {"tactic", step.candidate.tactic},
                     {"variant", step.candidate.variant},
                     {"in", to_json(step.candidate.inputs)},
                     {"out", to_json(step.candidate.outputs)},
                     {"inplace", step.candidate.inplace_input},
                     {"view", step.candidate.view},
                     {"constants", step.constant_inputs},
                     {"reads", to_json(step.inputs)},
                     {"writes", to_json(step.outputs)},
                     {"guards", step.guards},
                     {"faithful", step.faithful},
                     {"blobs", blobs},
                     {"time_us", step.time_us}});
  }
  header["steps"] = std::move(steps);
  const std::string text = header.dump();
  Preamble preamble{{}, kVersion, 0, text.size(), p.model.size(), at};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  const char zeros[kAlignment] = {};
  const auto padding = [](uint64_t bytes) { return round_up(bytes, kAlignment) - bytes; };
  BlockDigest model_digest, blob_digest;
  model_digest.add(zeros, model_offset(preamble) - digests_end(preamble));
  model_digest.add(p.model.data(), p.model.size()).add(zeros, padding(p.model.size()));
  for (const PlanStep& step : p.steps)
    for (BlobView blob : step.blobs) blob_digest.add(blob.data(), blob.size()).add(zeros, padding(blob.size()));
  std::string front(reinterpret_cast<const char*>(&preamble), sizeof preamble);
  front += text + model_digest.hex() + blob_digest.hex();
  front += sha256_hex(front);

  AtomicFile file(path);
  const auto write = [&](const void* data, uint64_t bytes) {
    file.write(data, bytes);
    file.write(zeros, padding(file.bytes_written()));
  };
  write(front.data(), front.size());
  write(p.model.data(), p.model.size());
  for (const PlanStep& step : p.steps)
    for (BlobView blob : step.blobs) write(blob.data(), blob.size());
  file.commit();
}

std::string file_digest(const Plan& plan) { return plan.impl().file_digest; }

std::shared_ptr<const Plan> Plan::open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  const OpenedFile opened(path);
  try {
    const json header = json::parse(opened.header);
    impl->threads = header.at("threads");
    impl->cpu = header.at("cpu");
    impl->file_digest = opened.front_digest;
    impl->onednn = header.at("onednn");
    require_cpu(path, impl->cpu);
    if (impl->onednn != onednn_version())
      fail(ErrorCode::kUnsupported,
           "The plan was made with another oneDNN; build it again with `slipway build`: {} (oneDNN {}, here {})", path,
           impl->onednn, onednn_version());
    if (impl->threads < 1 || impl->threads > 1024) fail_damaged(path, "an absurd number of threads");
    impl->inputs = ports_from(header.at("inputs"));
    impl->outputs = ports_from(header.at("outputs"));
    impl->metadata = header.at("metadata").get<std::map<std::string, std::string, std::less<>>>();
    impl->memory.arena_bytes = header.at("arena_bytes");
    impl->memory.lower_bound_bytes = header.at("lower_bound_bytes");
    impl->memory.unshared_bytes = header.at("unshared_bytes");
    if (impl->memory.arena_bytes > kMaxArenaBytes) fail_damaged(path, "an absurd arena");
    set_thread_count(impl->threads);
    opened.check_model();
    impl->weights = opened.read_blobs();
    const std::span<const std::byte> blobs{impl->weights.get(), opened.preamble.blob_bytes};
    for (const json& item : header.at("steps")) {
      impl->steps.push_back(step_from(item, blobs, *impl));
      for (BlobView blob : impl->steps.back().blobs) impl->memory.weight_bytes += blob.size();
    }
    impl->create_kernels();
  } catch (const json::exception& error) {
    fail_damaged(path, error.what());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidModel) throw;
    fail_damaged(path, error.what());
  }
  return std::make_shared<const Plan>(std::move(impl));
}

}  // namespace slipway
