#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

class Server;

/// A unary method that answers from what the server knows.
struct ControlMethod {
  std::string_view path;  ///< "/inference.GRPCInferenceService/ModelReady"
  enum class Kind : unsigned char {
    kQuick,
    kLoading,  ///< takes long, and only for who may
  } kind;
  /// Request and response as messages on the wire. Fails with kInvalidArgument for bytes that are no such message, and
  /// as what it calls.
  std::string (*answer)(Server& server, std::span<const std::byte> request);
};
/// Null when there is none.
const ControlMethod* find_control_method(std::string_view path);

}  // namespace slipway
