#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "oracle.h"

namespace slipway {

/// Something that disagreed with the reference.
struct Finding {
  std::string way;      ///< how the graph was run
  std::string kind;     ///< "difference", "special value", "names", "refused", "crash" or "hang"
  std::string message;  ///< the first output that differs, the error, the signal
  /// Of two findings that are likely one fault: way and kind, for a refusal also its sentence.
  std::string signature() const;
};

/// The ways to run a graph, each of which must agree with the reference: as text and as ONNX read back, with every pass
/// and with each left out, by the engine's default, plain, random and (one seed of four) timed choices, opened from a
/// file, on two threads, cut into rows, as a program of any shapes, optimised and quantised by the product and read
/// back.
std::vector<std::string> all_ways();

struct CheckOptions {
  std::vector<std::string> only = {};  ///< ways; empty: all
  uint64_t seed = 1;                   ///< of the engine's random choices
  int choices = 1;                     ///< how many of those
  /// Called before each way, so that who watches this process knows where it was.
  std::function<void(std::string_view way)> starting = {};
};
/// Runs the graph in these ways; the first disagreement of each.
std::vector<Finding> check(const Graph& graph, const std::vector<Tensor>& inputs, const CheckOptions& options = {});

}  // namespace slipway
