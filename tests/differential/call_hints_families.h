#pragma once
#include <span>

#include "call_hints.h"

namespace slipway {

// Parts of the table of hints, by file.
std::span<const CallHint> network_hints();  ///< convolutions, pools, normalisations, products, recurrent cells
std::span<const CallHint> special_hints();  ///< Q/DQ, resizing, generators, subgraphs
std::span<const CallHint> later_hints();    ///< of opset 16 and later, regions, losses

}  // namespace slipway
