#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/dtype.h"
#include "model/shape.h"

namespace slipway {

// The Open Inference Protocol v2 as values: what HTTP and gRPC decode to and encode from.

/// The protocol's name of an element type: "FP32", "INT8", "BYTES" (kString), …; empty where it has none.
std::string_view datatype_name(DType type);
/// kUndefined when there is no such name.
DType parse_datatype(std::string_view name);

/// A tensor in the protocol's binary form: dense, row-major, little-endian; of BYTES each element is its length (u32)
/// and its bytes.
struct WireTensor {
  std::string name;
  DType dtype = DType::kUndefined;
  Dims dims;
  std::span<const std::byte> bytes;
};

struct InferRequest {
  std::string id;      ///< echoed in the response; may be empty
  std::string sticky;  ///< what the canary's assignment hashes: header or parameter by configuration, else `id`
  std::vector<WireTensor> inputs;
  std::vector<std::string> outputs;   ///< wanted; empty: all, in the model's order
  int64_t arrival_ns = 0;             ///< monotonic: the last byte was there
  int64_t deadline_ns = 0;            ///< monotonic; 0: none
  std::shared_ptr<const void> owner;  ///< keeps the inputs' bytes alive
};

/// Which share of the traffic a request belongs to.
enum class Variant : uint8_t {
  kStable,     ///< the default version
  kCandidate,  ///< the rollout's, by assignment
  kPinned,     ///< the caller named the version
};
inline constexpr int kVariantCount = 3;
const char* to_string(Variant variant);

struct InferResponse {
  std::optional<ErrorCode> error;  ///< nothing: it went well
  std::string message;             ///< of the error
  int64_t retry_after_s = 0;       ///< with kOverloaded
  std::string model, id;
  int64_t version = 0;
  std::vector<WireTensor> outputs;    ///< those wanted, in the order asked for
  std::shared_ptr<const void> owner;  ///< keeps the outputs' bytes alive
  int64_t queue_ns = 0, compute_ns = 0, total_ns = 0;
  int64_t batch_rows = 0;  ///< rows of the batch that it was computed in
};

/// Called exactly once, on any thread; must not throw.
using InferDone = std::function<void(InferResponse&&)>;

}  // namespace slipway
