#pragma once
// What the fuzz targets do with their bytes, and the ordinary tests with the corpus: no input may do worse than fail
// with Error, and what was read must come back from its text.
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "model/graph.h"
#include "model/onnx/onnx.h"

namespace slipway {

/// True when the bytes are a model.
inline bool exercise_onnx(std::span<const std::byte> bytes) {
  try {
    const Graph graph = parse_onnx(bytes);
    const std::string text = to_text(graph);
    SLIPWAY_CHECK(to_text(parse_text(text)) == text);
    serialize_onnx(graph);
    return true;
  } catch (const Error& error) {
    SLIPWAY_CHECK(error.code() != ErrorCode::kInternal);
    return false;
  }
}

/// True when the text is a graph.
inline bool exercise_text(std::string_view text) {
  try {
    const Graph graph = parse_text(text);
    const std::string again = to_text(graph);
    SLIPWAY_CHECK(to_text(parse_text(again)) == again);
    serialize_onnx(graph);
    return true;
  } catch (const Error& error) {
    SLIPWAY_CHECK(error.code() != ErrorCode::kInternal);
    return false;
  }
}

}  // namespace slipway
