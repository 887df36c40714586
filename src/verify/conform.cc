// ONNX's test cases, every way that this program runs a model. A case is a stranger's file and may hit a bug of ours,
// so that it runs in a child, which SIGALRM ends when it takes too long; a child that died is told by its silence, and
// the ways are then tried one by one, to see which of them it was.
#include "verify/conform.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "verify/measure.h"
#include "verify/temporary_folder.h"

namespace slipway {
namespace {

using nlohmann::json;

// Made ready for these inputs, saved, opened again.
std::vector<Tensor> run_saved_plan(const Graph& graph, const std::vector<Tensor>& inputs,
                                   const ConformOptions& options) {
  const auto program = compiled_backend().make(graph, {.threads = options.threads});
  prepare_wholly(*program, {&inputs, 1});
  const TemporaryFolder folder;
  const std::string path = join_path(folder.path(), "case.plan");
  save_program(*program, path);
  return open_program(path)->open()->run(inputs);
}

std::vector<Tensor> run_way(const std::string& way, const Graph& graph, const std::vector<Tensor>& inputs,
                            const ConformOptions& options) {
  if (way == "reference") return evaluate(graph, inputs);
  if (way == "plan") return run_saved_plan(graph, inputs, options);
  return Executor(graph, {.program = {.threads = options.threads}}).run(inputs);
}

// Empty when all outputs of all data sets agree.
std::string differences(const std::string& way, const Graph& graph, const std::vector<CaseData>& sets,
                        const ConformOptions& options) {
  const bool values = !is_random(graph);
  for (const CaseData& data : sets) {
    const std::vector<Tensor> outputs = run_way(way, graph, data.inputs, options);
    if (outputs.size() != data.outputs.size())
      return fmt::format("{} outputs instead of {}", outputs.size(), data.outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i)
      if (std::string text = case_difference(outputs[i], data.outputs[i], values, options.tolerance); !text.empty())
        return fmt::format("output {}: {}", i, text);
  }
  return "";
}

WayResult judge_way(const std::string& way, const std::function<std::string()>& run) {
  try {
    std::string text = run();
    return {way, text.empty() ? CaseVerdict::kPassed : CaseVerdict::kWrong, std::move(text)};
  } catch (const Error& error) {
    const bool refused = error.code() == ErrorCode::kUnsupported;
    return {way, refused ? CaseVerdict::kUnsupported : CaseVerdict::kWrong, error.what()};
  } catch (const std::exception& error) {
    return {way, CaseVerdict::kWrong, error.what()};
  }
}

std::vector<WayResult> run_here(const std::string& folder, const ConformOptions& options) {
  std::vector<WayResult> results;
  Graph graph;
  std::vector<CaseData> sets;
  const WayResult read = judge_way("", [&] {
    graph = load_onnx(join_path(folder, "model.onnx"));
    sets = load_case_data(folder, graph);
    return std::string(sets.empty() ? "it has no test_data_set_N" : "");
  });
  for (const std::string& way : options.ways)
    results.push_back(read.verdict != CaseVerdict::kPassed
                          ? WayResult{way, read.verdict, read.reason}
                          : judge_way(way, [&] { return differences(way, graph, sets, options); }));
  return results;
}

json to_json(const std::vector<WayResult>& results) {
  json list = json::array();
  for (const WayResult& r : results) list.push_back({r.way, static_cast<int>(r.verdict), r.reason});
  return list;
}

// Empty when the child died.
std::vector<WayResult> run_in_child(const std::string& folder, const ConformOptions& options) {
  ChildProcess child(folder, [&](const json&) -> json {
    ::alarm(static_cast<unsigned>(std::ceil(options.seconds)));
    return to_json(run_here(folder, options));
  });
  json reply;
  try {
    reply = child.ask(json::object());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInternal) throw;
    return {};
  }
  std::vector<WayResult> results;
  for (const json& r : reply) results.push_back({r.at(0), static_cast<CaseVerdict>(r.at(1).get<int>()), r.at(2)});
  return results;
}

}  // namespace

CaseResult run_conformance_case(const std::string& folder, const ConformOptions& options) {
  CaseResult result{file_name(folder), "", run_in_child(folder, options)};
  try {
    result.op = operator_of_case(folder);
  } catch (const Error&) {  // the ways say why
  }
  if (!result.ways.empty()) return result;
  for (const std::string& way : options.ways) {
    ConformOptions alone = options;
    alone.ways = {way};
    const int64_t start = now_ns();
    const std::vector<WayResult> one = run_in_child(folder, alone);
    const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
    if (!one.empty())
      result.ways.push_back(one[0]);
    else if (seconds >= options.seconds)
      result.ways.push_back({way, CaseVerdict::kWrong, fmt::format("it was not done within {:g} s", options.seconds)});
    else
      result.ways.push_back({way, CaseVerdict::kWrong, "the process that ran it died"});
  }
  return result;
}

std::string reason_class(const std::string& reason) {
  const size_t colon = reason.find(": ");
  if (!reason.starts_with("The operator is not supported") || colon == std::string::npos)
    return reason.substr(0, std::min(colon, reason.find("; ")));
  const std::string place = reason.substr(colon + 2);
  return "no operator " + place.substr(0, place.find(' '));
}

}  // namespace slipway
