// slipway optimize: the graph passes alone, saved as standard ONNX, with a table of what each did.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/cli.h"
#include "engine/passes/pipeline.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

struct OptimizeFlags {
  std::string model, output, dump_folder;
  std::vector<std::string> disabled;
  int stop_after = -1;
  bool json = false, list = false;
};

void list_passes() {
  Table table({"pass", "result", "what it does"});
  for (const Pass& pass : all_passes())
    table.add({std::string(pass.name), pass.standard_onnx ? "ONNX" : "engine", std::string(pass.summary)});
  table.print();
}

void run_optimize(const OptimizeFlags& o) {
  if (o.list) return list_passes();
  require_replaces_nothing({o.output}, {o.model});
  require_writable(o.output);
  Graph graph = load_onnx(o.model);
  const size_t before = graph.node_count();
  const auto reports = run_passes(
      graph, {.standard_onnx = true, .disabled = o.disabled, .stop_after = o.stop_after, .dump_folder = o.dump_folder});
  save_onnx(graph, o.output);
  const auto bytes_before = model_bytes(o.model), bytes_after = file_bytes(o.output);
  if (o.json) {
    nlohmann::json passes = nlohmann::json::array();
    for (const PassReport& r : reports)
      if (r.changed)
        passes.push_back({{"pass", r.name},
                          {"nodes_before", r.nodes_before},
                          {"nodes_after", r.nodes_after},
                          {"time_ms", r.time_ms}});
    print_json({{"model", o.model},
                {"output", o.output},
                {"nodes_before", before},
                {"nodes_after", graph.node_count()},
                {"bytes_before", bytes_before},
                {"bytes_after", bytes_after},
                {"passes", passes}});
    return;
  }
  Table table({"pass", "nodes before", "after", "ms"});
  for (const PassReport& r : reports)
    if (r.changed)
      table.add(
          {r.name, std::to_string(r.nodes_before), std::to_string(r.nodes_after), fmt::format("{:.1f}", r.time_ms)});
  table.print();
  fmt::print("\n{} nodes -> {}, {} -> {}: {}\n", before, graph.node_count(),
             human_bytes(static_cast<double>(bytes_before)), human_bytes(static_cast<double>(bytes_after)), o.output);
}

}  // namespace

void add_optimize(Cli& cli) {
  auto o = std::make_shared<OptimizeFlags>();
  CLI::App* verb = add_verb(cli, "optimize", "Run the graph passes alone; the result is standard ONNX",
                            "  slipway optimize model.onnx -o model.opt.onnx\n"
                            "  slipway optimize --list          the passes, in order",
                            o->json);
  auto* model = verb->add_option("model", o->model, "ONNX file");
  auto* output = verb->add_option("-o,--output", o->output, "ONNX file to write");
  auto* list = verb->add_flag("--list", o->list, "List the passes and stop");
  verb->add_option("--disable", o->disabled, "Passes to leave out, by name");
  verb->add_option("--stop-after", o->stop_after,
                   "Run only the first N passes that change something (to find a culprit by bisection)");
  verb->add_option("--dump", o->dump_folder, "Folder for the graph's text after every pass that changed something");
  verb->callback([=] {
    if (!*list && (!*model || !*output)) throw CLI::RequiredError("model and --output");
    run_optimize(*o);
  });
}

}  // namespace slipway
