#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "serve/protocol.h"

namespace slipway {

struct MessageParameter {
  std::string_view name;
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string_view> value;
};

/// A ModelInferRequest. `request` lacks arrival, deadline and sticky, which the transport knows.
struct InferMessage {
  std::string_view model, version;  ///< into the message, as the parameters
  int64_t timeout_us = 0;           ///< parameter "timeout"; 0: none
  std::vector<MessageParameter> parameters;
  InferRequest request;

  /// A parameter as text; empty when there is none of this name.
  std::string parameter(std::string_view name) const;
};

/// Reads a ModelInferRequest in place: raw tensors, and typed ones that lie in memory as tensors do, are views into
/// `message`, which `owner` keeps alive; those whose elements are not aligned there are copied. Fails with
/// kInvalidArgument naming tensor and reason (raw and typed contents at once, counts that differ, numbers out of the
/// type's range, …), kUnsupported for shared memory, sequences and classification. Whether the tensors are those that
/// the model takes is for others to check.
InferMessage decode_infer_message(std::span<const std::byte> message, std::shared_ptr<const void> owner);

/// What to send, one after the other: text of its own, then bytes of the response.
struct MessagePiece {
  std::string text;
  std::span<const std::byte> bytes;
};
/// A ModelInferResponse with raw contents; `in_stream`: as a ModelStreamInferResponse, the response's error in it.
std::vector<MessagePiece> encode_infer_message(const InferResponse& response, Variant variant, bool in_stream);

}  // namespace slipway
