// ai.onnx.ml's ZipMap gives a sequence of maps, one a row, all with the same keys. There are no maps here: the values
// stay the tensor [N, C] that they were, under the output's name, and the keys are one more output of the same shape,
// named after it with "_keys" behind.
#include "base/error.h"
#include "model/onnx/rewrites/rewrite.h"
#include "model/op.h"

namespace slipway {
namespace {

Tensor map_keys(const Node& node) {
  if (const std::vector<int64_t> numbers = node.integers("classlabels_int64s"); !numbers.empty())
    return Tensor::of<int64_t>({1, static_cast<int64_t>(numbers.size())}, numbers);
  const auto it = node.attributes.find("classlabels_strings");
  const auto* texts = it == node.attributes.end() ? nullptr : std::get_if<std::vector<std::string>>(&it->second);
  if (texts == nullptr || texts->empty()) reject(node, "it needs either classlabels_strings or classlabels_int64s");
  return Tensor::of_strings({1, static_cast<int64_t>(texts->size())}, *texts);
}

}  // namespace

bool is_zip_map(const Node* node) {
  return node != nullptr && node->op_type == "ZipMap" && node->domain == "ai.onnx.ml";
}

void unzip_maps(Graph& graph) {
  for (NodeId id = 0, limit = graph.node_limit(); id < limit; ++id) {
    if (!is_zip_map(&graph.node(id))) continue;
    Rewrite r(graph, id);
    const bool is_output = graph.is_output(r.node.output(0));
    const std::string name = graph.value(r.node.output(0)).name + "_keys";
    const ValueId values = r.add("Identity", {r.need(0)}), labels = r.tensor(map_keys(r.node));
    r.finish({values});
    if (!is_output) continue;
    const ValueId keys = r.add("Expand", {labels, r.add("Shape", {values})});
    graph.rename(keys, name);
    graph.add_output(keys);
  }
}

}  // namespace slipway
