// slipway policy: the thresholds that verification judges by.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "report/policy.h"

namespace slipway {
namespace {

struct PolicyFlags {
  std::string output, file;
  bool json = false, force = false;
};

void init(const PolicyFlags& o) {
  if (o.output.empty()) {
    if (o.json)
      print_json({{"text", policy_template()}, {"digest", policy_digest(Policy())}});
    else
      fmt::print("{}", policy_template());
    return;
  }
  if (file_exists(o.output) && !o.force)
    fail(ErrorCode::kInvalidArgument, "The file exists; give --force to overwrite it: {}", o.output);
  write_file(o.output, std::string_view(policy_template()));
  if (o.json)
    print_json({{"output", o.output}, {"digest", policy_digest(Policy())}});
  else
    fmt::print("wrote the default policy, every key explained: {}\n", o.output);
}

void check(const PolicyFlags& o) {
  const std::string digest = policy_digest(load_policy(o.file));
  if (o.json)
    print_json({{"policy", o.file}, {"digest", digest}});
  else
    fmt::print("a valid policy, digest {}: {}\n", digest.substr(0, 16), o.file);
}

}  // namespace

void add_policy(Cli& cli) {
  CLI::App* verb = cli.app.add_subcommand("policy", "Write or check a policy: what a candidate model must keep");
  verb->require_subcommand(1);
  Cli inner{*verb};
  auto o = std::make_shared<PolicyFlags>();
  CLI::App* write =
      add_verb(inner, "init", "The defaults as a commented file", "  slipway policy init -o policy.yaml", o->json);
  write->add_option("-o,--output", o->output, "File to write; without it, standard output");
  write->add_flag("--force", o->force, "Overwrite the file");
  write->callback([=] { init(*o); });
  CLI::App* read =
      add_verb(inner, "check", "Whether a file is a valid policy", "  slipway policy check policy.yaml", o->json);
  read->add_option("file", o->file, "Policy")->required();
  read->callback([=] { check(*o); });
}

}  // namespace slipway
