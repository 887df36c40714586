// differential: random graphs in every way that the product runs them, held against the reference.
//
//   differential --from 1 --seeds 10000 --jobs 2      what disagreed, each reduced and printed as text
//   differential --write FOLDER …                      the reduced cases as model.onnx and test_data_set_0 as well
//   differential --export FOLDER --seeds 200           models as the product writes them, for another runtime to check
//   differential --show SEED                           the graph of a seed
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "isolated.h"
#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "random_graph.h"
#include "reduce.h"
#include "write_case.h"

namespace slipway {
namespace {

struct Options {
  SeedRange range;
  CheckOptions check;
  std::string write, export_to;
  uint64_t show = 0;
  bool coverage = false;
  int reduced = 3;  ///< of each signature
};

Finding matching(const std::vector<Finding>& findings, const std::string& signature) {
  for (const Finding& f : findings)
    if (f.signature() == signature) return f;
  return {};
}

void explain(const Options& o, uint64_t seed, const Finding& finding, int number) {
  fmt::print("\nseed {}: {}: {}: {}\n", seed, finding.way, finding.kind, finding.message);
  if (finding.way == "writing" || finding.way == "reference") return;
  const RandomGraph random = random_graph(seed);
  CheckOptions options = o.check;
  options.seed = seed;
  options.only = {finding.way};
  options.choices = finding.way == "random engine" || finding.way == "opened plan" ? 12 : 1;
  Finding last = finding;
  const SmallCase small = reduce({random.graph, random.inputs}, [&](const SmallCase& c) {
    const Finding found = matching(check_isolated(c.graph, c.inputs, options, 10), finding.signature());
    if (!found.way.empty()) last = found;
    return !found.way.empty();
  });
  fmt::print("{}{}: {}\n", to_text(small.graph, {.inline_elements = 24}), last.kind, last.message);
  std::fflush(stdout);
  if (o.write.empty()) return;
  std::string name = finding.way + "-" + finding.kind;
  std::replace(name.begin(), name.end(), ' ', '-');
  write_case(small.graph, small.inputs, join_path(o.write, fmt::format("{}-{}-{}", name, number, seed)));
}

int run(const Options& o) {
  const int64_t start = now_ns();
  std::map<std::string, std::vector<std::pair<uint64_t, Finding>>> found;
  std::map<std::string, int64_t> graphs_with;
  uint64_t done = 0, failing = 0;
  const auto rate = [&] { return static_cast<double>(done) * 1e9 / static_cast<double>(now_ns() - start + 1); };
  check_seeds(o.range, o.check, [&](const SeedResult& result) {
    for (const std::string& op : result.operators) ++graphs_with[op];
    // What comes first is likely the cause of the others.
    if (!result.findings.empty()) {
      const Finding& first = result.findings[0];
      fmt::print(stderr, "seed {}: {}: {}: {}\n", result.seed, first.way, first.kind, first.message);
      found[first.signature()].emplace_back(result.seed, first);
      ++failing;
    }
    if (++done % 500 == 0) fmt::print(stderr, "{} graphs, {} with a finding, {:.1f} a second\n", done, failing, rate());
  });
  fmt::print("{} graphs in {:.1f} s ({:.1f} a second), {} with a finding\n", done,
             static_cast<double>(now_ns() - start) / 1e9, rate(), failing);
  for (const auto& [signature, cases] : found) {
    fmt::print("  {:6} {}   seeds", cases.size(), signature);
    for (size_t i = 0; i < std::min<size_t>(cases.size(), 8); ++i) fmt::print(" {}", cases[i].first);
    fmt::print("\n");
  }
  if (o.coverage) {
    std::set<std::string_view> names;
    for (const OpSpec* spec : all_ops())
      if (spec->domain.empty()) names.insert(spec->name);
    for (const std::string_view name : names) fmt::print("  {:24} {:8}\n", name, graphs_with[std::string(name)]);
  }
  std::fflush(stdout);
  for (const auto& [signature, cases] : found)
    for (int i = 0; i < std::min<int>(o.reduced, static_cast<int>(cases.size())); ++i)
      explain(o, cases[static_cast<size_t>(i)].first, cases[static_cast<size_t>(i)].second, i);
  return found.empty() ? 0 : 1;
}

void show(uint64_t seed) {
  const RandomGraph random = random_graph(seed);
  fmt::print("{}", to_text(random.graph));
  for (size_t i = 0; i < random.inputs.size(); ++i)
    fmt::print("input {} {}{}\n", i, to_string(random.inputs[i].dtype()), to_string(random.inputs[i].dims()));
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  using namespace slipway;
  Options o;
  CLI::App app("Random graphs in every way that slipway runs them, held against the reference");
  app.add_option("--from", o.range.first, "First seed")->capture_default_str();
  app.add_option("--seeds", o.range.count, "How many seeds")->capture_default_str();
  app.add_option("--seconds", o.range.seconds, "Begin no further seeds after this time; then --seeds is without limit");
  app.add_option("--jobs", o.range.jobs, "Processes at once")->capture_default_str()->check(CLI::Range(1, 256));
  app.add_option("--seconds-each", o.range.seconds_each, "A seed that takes longer hangs")->capture_default_str();
  app.add_option("--way", o.check.only, "Only these ways to run a graph (repeatable)")
      ->check(CLI::IsMember(all_ways()));
  app.add_option("--reduce", o.reduced, "Cases of each kind to reduce and print")->capture_default_str();
  app.add_option("--write", o.write, "Folder for the reduced cases");
  app.add_option("--export", o.export_to, "Folder for models as the product writes them; nothing is checked");
  app.add_option("--show", o.show, "Print the graph of this seed");
  app.add_flag("--coverage", o.coverage, "Print in how many graphs each operator stands");
  CLI11_PARSE(app, argc, argv);
  if (o.range.seconds > 0) o.range.count = uint64_t{1} << 40;
  try {
    if (o.show != 0) return show(o.show), 0;
    if (!o.export_to.empty()) return export_seeds(o.range, o.export_to), 0;
    return run(o);
  } catch (const Error& error) {
    fmt::print(stderr, "differential: {}\n", error.what());
    return 2;
  }
}
