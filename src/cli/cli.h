#pragma once
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// The verbs, one file each. Each adds a subcommand whose callback does the work and throws Error; `exit_code` is set
/// where a verdict is negative.
struct Cli {
  CLI::App& app;
  int exit_code = 0;
};
void add_inspect(Cli& cli);
void add_data(Cli& cli);
void add_policy(Cli& cli);
void add_optimize(Cli& cli);
void add_build(Cli& cli);
void add_run(Cli& cli);
void add_bench(Cli& cli);
void add_quantize(Cli& cli);
void add_qat(Cli& cli);
void add_verify(Cli& cli);
void add_conform(Cli& cli);
void add_serve(Cli& cli);
void add_prepare(Cli& cli);
void add_load(Cli& cli);
void add_top(Cli& cli);
void add_rollout(Cli& cli);
void add_ship(Cli& cli);

/// After a parse that failed: what stands on the command line and is neither verb nor option of the verb it stands
/// after, and what was likely meant. Empty: something else is wrong.
std::string unknown_word(const CLI::App& app);

/// A subcommand with its help, an example and --json.
CLI::App* add_verb(Cli& cli, const std::string& name, const std::string& summary, const std::string& example,
                   bool& json);

/// --quick, --samples, --edge-case-samples and --seconds, the same for `verify` and `ship`.
struct VerifyExtent;
void add_verify_extent(CLI::App& verb, VerifyExtent& extent);

/// libgomp's threads spin between parallel regions unless OMP_WAIT_POLICY says otherwise before it is loaded, and where
/// others use the CPUs, too, they wait for one another for milliseconds: starts this program again with it.
void restart_with_passive_threads();

/// --tls-ca, --tls-cert and --tls-key of a verb that talks to servers.
struct TlsFiles;
void add_tls_client(CLI::App& verb, TlsFiles& tls);

/// The model of an ONNX file, or the one that a plan file carries.
Graph load_model(const std::string& path);
/// Its size on disk, an ONNX file's data files included.
uint64_t model_bytes(const std::string& path);
/// Fails with kInvalidArgument where one of `written` is what a verb reads, however it is spelled: a file of one of the
/// `models` (a plan, or an ONNX file with its data files), or one of `others`. Empty names are left out.
void require_replaces_nothing(const std::vector<std::string>& written, const std::vector<std::string>& models,
                              const std::vector<std::string>& others = {});
/// "NAME=SIZE" pairs; fails with kInvalidArgument on anything else.
std::map<std::string, int64_t> parse_dims(const std::vector<std::string>& pairs);
/// The default timing cache, in the user's cache folder.
std::string default_timing_cache();
/// One line on standard output.
void print_json(const nlohmann::json& json);

/// A table for people: columns aligned, numbers to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void add(std::vector<std::string> row);
  void print() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string human_bytes(double bytes);
std::string human_count(double count);

}  // namespace slipway
