#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/memory.h"
#include "serve/protocol.h"

namespace slipway {

/// A caller's text for a message: quoted, cut to 64 bytes, anything but printable ASCII as '?'.
std::string quote_name(std::string_view text);

struct TensorBytes {
  AlignedBytes data;
  size_t size = 0;
};

/// The "data" of a request's tensor, a JSON array flat or nested as `dims` say (at most 16 axes), in the protocol's
/// binary form. `text` is the array, valid UTF-8 with strings that end; 16 bytes after it can be read. Memory is
/// bounded by the text's length, not by `dims`. Fails with kInvalidArgument, naming the tensor and the element: another
/// number of elements, another nesting, values of another kind or out of range for the type, NaN.
TensorBytes parse_json_tensor(std::string_view text, DType dtype, std::span<const int64_t> dims, std::string_view name);

}  // namespace slipway
