#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/lower/lower.h"
#include "engine/plan.h"
#include "model/graph.h"

namespace slipway {

class WeightPool;

/// What a plan file holds beside its JSON: packed weights and constants, those at one address once.
class BlobTable {
 public:
  /// The number of the blob in the file. Its bytes stay where they are until the file is written.
  int64_t add(BlobView blob);
  const std::vector<BlobView>& blobs() const { return blobs_; }

 private:
  std::map<std::pair<const std::byte*, size_t>, int64_t> numbers_;
  std::vector<BlobView> blobs_;
};

/// Writes a plan file, whole or not at all: `program` (program_file.cc) for so many threads, its blobs, and the model
/// as ONNX that it was made from. Fails with kIo.
void write_plan_file(const std::string& path, const nlohmann::json& program, int threads, const BlobTable& blobs,
                     std::span<const std::byte> model);

/// A plan file that is open, its front read and checked. What becomes of the file afterwards is no matter, unless its
/// model is asked for then.
class PlanFile {
 public:
  /// Fails with kInvalidModel where the front is damaged or it is no plan, kUnsupported where it is of another version.
  explicit PlanFile(const std::string& path);
  ~PlanFile();
  PlanFile(const PlanFile&) = delete;
  PlanFile& operator=(const PlanFile&) = delete;

  /// Reads the blobs, those that the pool has already from there, and checks every other byte. Fails with kInvalidModel
  /// where a bit is damaged, kUnsupported where this CPU or this oneDNN lacks what the plans were built for.
  void read(WeightPool& pool);

  const nlohmann::json& program() const;
  int threads() const;
  std::string cpu() const;                 ///< features that the plans need
  const Blob& blob(int64_t number) const;  ///< after read(); fails with kInvalidModel where there is none
  /// SHA-256 over its header and the digests of its model and blobs: what the file is known by.
  const std::string& digest() const;
  /// The model, read anew. Fails with kInvalidModel where it is not what it was.
  Graph model() const;
  /// Fails with kInvalidModel, naming the file.
  [[noreturn]] void fail_damaged(std::string_view what) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What the file that a plan was opened from is known by (PlanFile::digest). Empty for a plan that was built here.
std::string file_digest(const Plan& plan);

}  // namespace slipway
