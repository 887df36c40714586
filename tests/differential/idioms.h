#pragma once
#include "graph_writer.h"

namespace slipway {

/// Adds the arithmetic that exporters write where a model has one operator (LayerNormalization, RMSNormalization, Gelu,
/// Swish, HardSwish), in the orders in which they write it, now and then with a constant or an axis of another meaning.
/// Does nothing where no value fits.
void write_idiom(GraphWriter& writer);

}  // namespace slipway
