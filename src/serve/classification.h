#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "serve/protocol.h"

namespace slipway {

/// The protocol's "classification" of an output: the `count` best of each row as BYTES "value:index", with ":label"
/// where there is one, best first; NaN is worst, ties go by index. Rows are along the first axis when `by_row`, else
/// the tensor is one. The bytes live in `storage`. Fails with kInvalidArgument for BOOL and BYTES.
WireTensor classify(const WireTensor& scores, int64_t count, bool by_row, std::span<const std::string> labels,
                    std::vector<std::byte>& storage);

}  // namespace slipway
