// slipway conform: ONNX's own test cases through every way that this program runs a model.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "verify/conform.h"

namespace slipway {
namespace {

using nlohmann::json;

struct ConformFlags {
  std::vector<std::string> folders;
  ConformOptions options;
  bool json = false;
};

struct Tally {
  int passed = 0, wrong = 0, unsupported = 0;
  void add(CaseVerdict verdict) {
    ++(verdict == CaseVerdict::kPassed ? passed : verdict == CaseVerdict::kWrong ? wrong : unsupported);
  }
  int total() const { return passed + wrong + unsupported; }
  json to_json() const { return {{"passed", passed}, {"wrong", wrong}, {"unsupported", unsupported}}; }
};

using Tallies = std::map<std::string, Tally>;  // way → its cases

const char* word(CaseVerdict verdict) {
  return verdict == CaseVerdict::kPassed ? "passed" : verdict == CaseVerdict::kWrong ? "wrong" : "unsupported";
}

bool is_failure(const WayResult& way) { return way.verdict != CaseVerdict::kPassed; }

// One line for each reason that the case has, with the ways that it holds for.
void print_failures(const CaseResult& result) {
  std::vector<bool> told(result.ways.size(), false);
  for (size_t i = 0; i < result.ways.size(); ++i) {
    const WayResult& first = result.ways[i];
    if (told[i] || !is_failure(first)) continue;
    std::string ways;
    for (size_t k = i; k < result.ways.size(); ++k) {
      const WayResult& other = result.ways[k];
      if (other.verdict != first.verdict || other.reason != first.reason) continue;
      told[k] = true;
      ways += (ways.empty() ? "" : ", ") + other.way;
    }
    fmt::print("{} {} ({}): {}\n", result.name, word(first.verdict), ways, first.reason);
  }
}

std::vector<std::string> cells(const std::string& name, const Tallies& tallies, const ConformOptions& options) {
  std::vector<std::string> row = {name};
  for (const std::string& way : options.ways) {
    const Tally& t = tallies.at(way);
    row.push_back(fmt::format("{} of {}", t.passed, t.total()));
  }
  return row;
}

json to_json(const Tallies& tallies) {
  json j = json::object();
  for (const auto& [way, tally] : tallies) j[way] = tally.to_json();
  return j;
}

void print_reasons(const std::map<std::string, Tally>& reasons) {
  std::vector<std::pair<std::string, Tally>> sorted(reasons.begin(), reasons.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.total() > b.second.total(); });
  Table table({"cases", "unsupported because"});
  for (const auto& [reason, tally] : sorted) table.add({std::to_string(tally.total()), reason});
  if (!sorted.empty()) table.print();
  if (!sorted.empty()) fmt::print("\n");
}

bool run_conform(const ConformFlags& o) {
  std::vector<std::string> cases;
  for (const std::string& folder : o.folders) {
    const std::vector<std::string> found = case_folders(folder);
    if (found.empty())
      fail(ErrorCode::kNotFound, "There is no case here; name folders of model.onnx and test_data_set_0: {}", folder);
    cases.insert(cases.end(), found.begin(), found.end());
  }
  Tallies totals;
  for (const std::string& way : o.options.ways) totals[way];
  std::map<std::string, Tallies> operators;
  std::map<std::string, Tally> reasons;
  json failures = json::array();
  {
    Progress progress("cases", static_cast<int64_t>(cases.size()), o.json);
    for (const std::string& folder : cases) {
      const CaseResult result = run_conformance_case(folder, o.options);
      if (!o.json) print_failures(result);
      for (const WayResult& way : result.ways) {
        totals[way.way].add(way.verdict);
        operators[result.op.empty() ? "unreadable" : result.op][way.way].add(way.verdict);
        if (is_failure(way))
          failures.push_back(
              {{"case", result.name}, {"way", way.way}, {"class", word(way.verdict)}, {"reason", way.reason}});
      }
      if (const WayResult& first = result.ways.front(); first.verdict == CaseVerdict::kUnsupported)
        reasons[reason_class(first.reason)].add(first.verdict);
      progress.step();
    }
  }
  if (o.json) {
    json of_operators = json::object();
    for (const auto& [op, tallies] : operators) of_operators[op] = to_json(tallies);
    print_json(
        {{"cases", cases.size()}, {"ways", to_json(totals)}, {"operators", of_operators}, {"failures", failures}});
    return failures.empty();
  }
  if (!failures.empty()) fmt::print("\n");
  std::vector<std::string> header = {"operator"};
  header.insert(header.end(), o.options.ways.begin(), o.options.ways.end());
  Table table(header);
  for (const auto& [op, tallies] : operators) table.add(cells(op, tallies, o.options));
  table.print();
  fmt::print("\n");
  print_reasons(reasons);
  for (const std::string& way : o.options.ways) {
    const Tally& t = totals[way];
    fmt::print("{}: {} of {} cases passed, {} wrong, {} unsupported\n", way, t.passed, t.total(), t.wrong,
               t.unsupported);
  }
  return failures.empty();
}

}  // namespace

void add_conform(Cli& cli) {
  auto o = std::make_shared<ConformFlags>();
  CLI::App* verb = add_verb(
      cli, "conform", "Run ONNX's own test cases and say which this program computes as the standard does",
      "  slipway conform /usr/share/libonnx-testdata/data/node\n"
      "  slipway conform node/test_relu --way engine\n"
      "A case is a folder with model.onnx and test_data_set_N, which holds input_M.pb and output_M.pb. Each runs in a\n"
      "process of its own, three ways: by the reference, compiled for the shapes that come (engine), and from a plan\n"
      "that was built, saved and opened (plan). A case is wrong when it gives other outputs, an error or a crash, and\n"
      "unsupported when it is refused with what is missing. Of operators of chance, types and shapes are compared.\n"
      "Exit status 1 where a case failed.",
      o->json);
  verb->add_option("folders", o->folders, "Cases, or folders of cases")->required();
  verb->add_option("--way", o->options.ways, "reference, engine or plan (repeatable; default: all)")
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"reference", "engine", "plan"}));
  verb->add_option("--rtol", o->options.tolerance.relative, "Relative tolerance of floats")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--atol", o->options.tolerance.absolute, "Absolute tolerance of floats")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--threads", o->options.threads, "Threads a run")->check(CLI::Range(1, 1024))->capture_default_str();
  verb->add_option("--seconds", o->options.seconds, "A case that takes longer is wrong")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  verb->callback([=, &cli] { cli.exit_code = run_conform(*o) ? 0 : exit_status(ErrorCode::kVerificationFailed); });
}

}  // namespace slipway
