// Cases as ONNX's own test folders, for other programs to run.
#include "write_case.h"

#include "base/error.h"
#include "base/file.h"
#include "engine/passes/pipeline.h"
#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "quantize/quantize.h"
#include "random_graph.h"

namespace slipway {

namespace {

void write_tensors(const std::vector<Tensor>& tensors, const Graph& graph, const std::vector<ValueId>& ids,
                   const std::string& folder, std::string_view kind) {
  for (size_t i = 0; i < tensors.size(); ++i)
    save_tensor_pb(tensors[i], graph.value(ids[i]).name, join_path(folder, fmt::format("{}_{}.pb", kind, i)));
}

}  // namespace

void write_case(const Graph& graph, const std::vector<Tensor>& inputs, const std::string& folder) {
  const std::string data = join_path(folder, "test_data_set_0");
  make_folders(data);
  save_onnx(graph, join_path(folder, "model.onnx"));
  write_tensors(inputs, graph, graph.inputs(), data, "input");
  write_tensors(evaluate(graph, inputs), graph, graph.outputs(), data, "output");
}

void export_seeds(const SeedRange& range, const std::string& folder) {
  for (uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
    const RandomGraph random = random_graph(seed);
    const std::string to = join_path(folder, std::to_string(seed));
    try {
      write_case(random.graph, random.inputs, to);
      Graph optimised = random.graph;
      run_passes(optimised, {.standard_onnx = true});
      save_onnx(optimised, join_path(to, "optimized.onnx"));
      const CalibrationSource source{.count = 1, .read = [&](std::span<const int64_t>) {
                                       return std::vector<std::vector<Tensor>>{random.inputs};
                                     }};
      const Graph quantised = quantize(random.graph, source, {}, {.engine = "reference"}).graph;
      save_onnx(quantised, join_path(to, "quantized.onnx"));
      write_tensors(evaluate(quantised, random.inputs), quantised, quantised.outputs(),
                    join_path(to, "test_data_set_0"), "quantized");
    } catch (const Error&) {
      // What can't be quantised has no such file; `check` tells what can't be optimised.
    }
  }
}

}  // namespace slipway
