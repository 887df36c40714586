// Plans on disk. The file is
//
//   "SLIPPLAN" · u32 version · u32 reserved · u64 header bytes · u64 model bytes · u64 blob bytes
//   header (JSON: what the plans need here, the blobs' places, the program, see program_file.cc)
//   64 digits each: BlockDigest of the model, of the blobs; SHA-256 of everything before it
//   the original model as ONNX (read through when the file is opened, not kept)
//   blobs, each 64-byte aligned in the file
//
// Every byte is under one of the three digests: the model's goes on to where the blobs begin, with the padding on both
// sides. The bytes are untrusted: every offset and size is checked against the file. Third-party structs are never
// stored.
#include "engine/plan_file.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/block_digest.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/hash.h"
#include "engine/weight_pool.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr char kMagic[8] = {'S', 'L', 'I', 'P', 'P', 'L', 'A', 'N'};
constexpr uint32_t kVersion = 4;
constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
constexpr size_t kDigestDigits = 64;
constexpr uint64_t kReadBytes = 256 * 1024;  // stays in the second-level cache between reading and digesting

struct Preamble {
  char magic[8];
  uint32_t version, reserved;
  uint64_t header_bytes, model_bytes, blob_bytes;
};

uint64_t digests_offset(const Preamble& p) { return sizeof(Preamble) + p.header_bytes; }
uint64_t digests_end(const Preamble& p) { return digests_offset(p) + 3 * kDigestDigits; }
uint64_t model_offset(const Preamble& p) { return round_up(digests_end(p), kAlignment); }
uint64_t blob_offset(const Preamble& p) { return round_up(model_offset(p) + p.model_bytes, kAlignment); }

uint64_t padding_of(uint64_t bytes) { return round_up(bytes, kAlignment) - bytes; }

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

}  // namespace

int64_t BlobTable::add(BlobView blob) {
  const auto [it, fresh] = numbers_.try_emplace({blob.data(), blob.size()}, static_cast<int64_t>(blobs_.size()));
  if (fresh) blobs_.push_back(blob);
  return it->second;
}

void write_plan_file(const std::string& path, const json& program, int threads, const BlobTable& blobs,
                     std::span<const std::byte> model) {
  json sizes = json::array();
  uint64_t blob_bytes = 0;
  for (const BlobView blob : blobs.blobs()) {
    sizes.push_back(blob.size());
    blob_bytes += round_up(blob.size(), kAlignment);
  }
  const std::string text = json{
      {"threads", threads},
      {"cpu", to_string(cpu_features())},
      {"onednn", onednn_version()},
      {"blobs", std::move(sizes)},
      {"program", program}}.dump();
  Preamble preamble{{}, kVersion, 0, text.size(), model.size(), blob_bytes};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  const char zeros[kAlignment] = {};
  BlockDigest model_digest, blob_digest;
  model_digest.add(zeros, model_offset(preamble) - digests_end(preamble));
  model_digest.add(model.data(), model.size()).add(zeros, padding_of(model.size()));
  for (const BlobView blob : blobs.blobs())
    blob_digest.add(blob.data(), blob.size()).add(zeros, padding_of(blob.size()));
  std::string front(reinterpret_cast<const char*>(&preamble), sizeof preamble);
  front += text + model_digest.hex() + blob_digest.hex();
  front += sha256_hex(front);

  AtomicFile file(path);
  const auto write = [&](const void* data, uint64_t bytes) {
    file.write(data, bytes);
    file.write(zeros, padding_of(file.bytes_written()));
  };
  write(front.data(), front.size());
  write(model.data(), model.size());
  for (const BlobView blob : blobs.blobs()) write(blob.data(), blob.size());
  file.commit();
}

struct PlanFile::Impl {
  explicit Impl(const std::string& name) : file(name), path(name) {}

  /// Reads [begin, end) into `to`, or only through it where that is null.
  void read(uint64_t begin, uint64_t end, std::byte* to, BlockDigest& digest) const {
    std::vector<std::byte> passing(to == nullptr ? static_cast<size_t>(std::min(kReadBytes, end - begin)) : 0);
    for (uint64_t at = begin; at < end;) {
      const auto bytes = static_cast<size_t>(std::min(kReadBytes, end - at));
      std::byte* block = to == nullptr ? passing.data() : to + (at - begin);
      file.read(at, block, bytes);
      digest.add(block, bytes);
      at += bytes;
    }
  }

  FileReader file;
  const std::string path;
  Preamble preamble{};
  json header;
  std::string model_digest, blob_digest, front_digest;
  std::vector<Blob> blobs;
};

PlanFile::PlanFile(const std::string& path) : impl_(std::make_unique<Impl>(path)) {
  Preamble& p = impl_->preamble;
  const uint64_t size = impl_->file.size();
  if (size < sizeof p) fail_damaged("too short");
  impl_->file.read(0, &p, sizeof p);
  if (std::memcmp(p.magic, kMagic, sizeof kMagic) != 0) fail_damaged("not a plan");
  if (p.version != kVersion)
    fail(ErrorCode::kUnsupported,
         "The plan was made by another version of Slipway; build it again with `slipway build`: {} (format {})", path,
         p.version);
  if (p.header_bytes > kMaxHeaderBytes || p.header_bytes > size || p.model_bytes > size || p.blob_bytes > size ||
      blob_offset(p) + p.blob_bytes != size)
    fail_damaged("its sections do not add up to its size");
  std::string front(digests_end(p), '\0');
  impl_->file.read(0, front.data(), front.size());
  const auto digest = [&](size_t i) { return front.substr(digests_offset(p) + i * kDigestDigits, kDigestDigits); };
  if (std::memcmp(front.data(), &p, sizeof p) != 0 ||
      sha256_hex(std::string_view(front).substr(0, front.size() - kDigestDigits)) != digest(2))
    fail_damaged("its header's digest differs");
  impl_->model_digest = digest(0), impl_->blob_digest = digest(1), impl_->front_digest = digest(2);
  impl_->header = json::parse(std::string_view(front).substr(sizeof p, p.header_bytes), nullptr, false);
  try {
    const int threads = impl_->header.at("threads").get<int>();
    if (threads < 1 || threads > 1024) fail_damaged("an absurd number of threads");
    impl_->header.at("program");
  } catch (const json::exception& error) {
    fail_damaged(error.what());
  }
}

PlanFile::~PlanFile() = default;

void PlanFile::read(WeightPool& pool) try {
  const Preamble& p = impl_->preamble;
  require_cpu(impl_->path, impl_->header.at("cpu"));
  if (const std::string made = impl_->header.at("onednn"); made != onednn_version())
    fail(ErrorCode::kUnsupported,
         "The plan was made with another oneDNN; build it again with `slipway build`: {} (oneDNN {}, here {})",
         impl_->path, made, onednn_version());
  BlockDigest model_digest, blob_digest;
  impl_->read(digests_end(p), blob_offset(p), nullptr, model_digest);
  if (model_digest.hex() != impl_->model_digest) fail_damaged("the digest of its model differs");

  const std::shared_ptr<std::byte[]> region(allocate_large(p.blob_bytes).release(), AlignedFree());
  std::byte* free = region.get();  // what the pool has takes no room there
  uint64_t at = blob_offset(p);
  for (const json& item : impl_->header.at("blobs")) {
    const uint64_t bytes = item;
    if (bytes > impl_->file.size() - at) fail_damaged("a blob lies outside the file");
    const uint64_t end = at + round_up(bytes, kAlignment);
    if (end > impl_->file.size()) fail_damaged("a blob lies outside the file");
    impl_->read(at, end, free, blob_digest);
    Blob& blob = impl_->blobs.emplace_back(Blob{{region, free}, bytes});
    pool.share(blob);
    if (blob.data.get() == free) free += end - at;
    at = end;
  }
  if (at != impl_->file.size() || blob_digest.hex() != impl_->blob_digest)
    fail_damaged("the digest of its weights differs");
} catch (const json::exception& error) {
  fail_damaged(error.what());
}

const json& PlanFile::program() const { return impl_->header.at("program"); }
int PlanFile::threads() const { return impl_->header.at("threads").get<int>(); }
std::string PlanFile::cpu() const { return impl_->header.at("cpu").get<std::string>(); }
const std::string& PlanFile::digest() const { return impl_->front_digest; }

const Blob& PlanFile::blob(int64_t number) const {
  if (number < 0 || static_cast<size_t>(number) >= impl_->blobs.size()) fail_damaged("there is no such blob");
  return impl_->blobs[static_cast<size_t>(number)];
}

Graph PlanFile::model() const {
  const uint64_t begin = digests_end(impl_->preamble), end = blob_offset(impl_->preamble);
  const AlignedBytes section = allocate_large(end - begin);
  BlockDigest digest;
  impl_->read(begin, end, section.get(), digest);
  if (digest.hex() != impl_->model_digest) fail_damaged("the digest of its model differs");
  return parse_onnx({section.get() + (model_offset(impl_->preamble) - begin), impl_->preamble.model_bytes});
}

void PlanFile::fail_damaged(std::string_view what) const {
  fail(ErrorCode::kInvalidModel, "The plan file is damaged; build it again with `slipway build`: {} ({})", impl_->path,
       what);
}

bool Plan::is_plan_file(const std::string& path) {
  if (!file_exists(path)) return false;
  const FileReader file(path);
  char magic[sizeof kMagic];
  if (file.size() < sizeof(Preamble)) return false;
  file.read(0, magic, sizeof magic);
  return std::memcmp(magic, kMagic, sizeof kMagic) == 0;
}

Graph Plan::graph_of(const std::string& path) { return PlanFile(path).model(); }

}  // namespace slipway
