#pragma once
#include <string_view>

#include "graph_writer.h"

namespace slipway {

/// Raises the share of proposals that are valid: what rank the first operand of an operator has, and how the other
/// operands and attributes fit it. An operator without a row is proposed by its signature alone.
struct CallHint {
  std::string_view op;
  int64_t min_rank = 0, max_rank = 5;
  void (*complete)(Call&) = nullptr;
};
/// nullptr when there is none.
const CallHint* hint_for(std::string_view op);

/// The strings that some operator takes for the attribute of this name.
const std::vector<std::string>& words_for(std::string_view attribute);

}  // namespace slipway
