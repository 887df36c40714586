// A line with the format, a line with the SHA-256 of all that follows, a line of JSON, then the tensors' floats in its
// order. Nothing is parsed before the digest has shown that the file is one that was written whole.
#include "train/checkpoint.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "slipway training checkpoint 1\n";
constexpr size_t kDigestChars = 64;

[[noreturn]] void reject(const std::string& path) {
  fail(ErrorCode::kInvalidArgument, "The checkpoint is damaged; delete it, or begin anew with --restart: {}", path);
}

}  // namespace

void save_checkpoint(const Checkpoint& checkpoint, const std::string& path) {
  json header = {{"key", checkpoint.key}, {"progress", checkpoint.progress}, {"tensors", json::array()}};
  for (const auto& [name, tensor] : checkpoint.tensors)
    header["tensors"].push_back({{"name", name}, {"dims", tensor.sizes().vec()}});
  std::string body = header.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const at::Tensor dense = tensor.detach().to(at::kFloat).contiguous();
    body.append(reinterpret_cast<const char*>(dense.data_ptr<float>()),
                static_cast<size_t>(dense.numel()) * sizeof(float));
  }
  AtomicFile file(path);
  file.write(kFormat);
  file.write(sha256_hex(body) + "\n");
  file.write(body);
  file.commit();
}

std::optional<Checkpoint> load_checkpoint(const std::string& path, const std::string& key) {
  if (!file_exists(path)) return std::nullopt;
  const std::vector<std::byte> bytes = read_file(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t body_at = kFormat.size() + kDigestChars + 1;
  if (!text.starts_with(kFormat) || text.size() < body_at) reject(path);
  const std::string_view body = text.substr(body_at);
  if (sha256_hex(body) != text.substr(kFormat.size(), kDigestChars)) reject(path);
  try {
    const size_t end = body.find('\n');
    const json header = json::parse(body.substr(0, end));
    Checkpoint checkpoint{header.at("key"), header.at("progress"), {}};
    if (checkpoint.key != key)
      fail(ErrorCode::kInvalidArgument,
           "The checkpoint is another training's: model, data or options differ; delete it, name another with "
           "--checkpoint, or begin anew with --restart: {}",
           path);
    size_t at = end + 1;
    for (const json& entry : header.at("tensors")) {
      at::Tensor tensor = at::empty(entry.at("dims").get<std::vector<int64_t>>());
      const size_t size = static_cast<size_t>(tensor.numel()) * sizeof(float);
      if (size > body.size() - at) reject(path);
      std::memcpy(tensor.data_ptr<float>(), body.data() + at, size);
      at += size;
      checkpoint.tensors[entry.at("name")] = tensor;
    }
    return checkpoint;
  } catch (const json::exception&) {
    reject(path);
  }
}

}  // namespace slipway
