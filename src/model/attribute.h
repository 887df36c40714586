#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "model/tensor.h"

namespace slipway {

class Graph;
using GraphPtr = std::shared_ptr<Graph>;

/// DType: the type of a value, which Optional has.
using Attribute =
    std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>, std::vector<std::string>,
                 Tensor, GraphPtr, std::vector<Tensor>, std::vector<GraphPtr>, DType>;
using Attributes = std::map<std::string, Attribute, std::less<>>;

}  // namespace slipway
