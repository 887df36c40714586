// slipway: takes a trained network to production. One file a verb; errors become one sentence and an exit status here.
#include <csignal>
#include <cstdio>
#include <exception>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/visible.h"
#include "cli/cli.h"

int main(int argc, char** argv) {
  using namespace slipway;
  CLI::App app(
      "Slipway takes a trained neural network to production and keeps it honest there:\n"
      "optimise, quantise, verify and run ONNX models on CPUs.");
  app.name("slipway");
  app.set_version_flag("--version", "slipway " SLIPWAY_VERSION);
  app.require_subcommand(1);
  app.fallthrough(false);
  app.footer(
      "\n`slipway VERB --help` explains a verb, with an example.\n"
      "Exit status: 0 good, 1 verdict negative, 2 bad usage or input, 3 internal error, 130 interrupted.");
  Cli cli{app};
  add_inspect(cli);
  add_data(cli);
  add_policy(cli);
  add_optimize(cli);
  add_build(cli);
  add_run(cli);
  add_bench(cli);
  add_quantize(cli);
  add_qat(cli);
  add_verify(cli);
  add_conform(cli);
  add_serve(cli);
  add_prepare(cli);
  add_load(cli);
  add_top(cli);
  add_rollout(cli);
  add_ship(cli);
  catch_interrupts();
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error of the write
  try {
    app.parse(argc, argv);
    return cli.exit_code;
  } catch (const CLI::ParseError& error) {
    if (const std::string said = unknown_word(app); !said.empty()) {
      std::fprintf(stderr, "slipway: %s\n", visible(said).c_str());
      return exit_status(ErrorCode::kInvalidArgument);
    }
    return app.exit(error) == 0 ? 0 : exit_status(ErrorCode::kInvalidArgument);
  } catch (const Error& error) {
    std::fprintf(stderr, "slipway: %s\n", visible(error.what(), true).c_str());
    return exit_status(error.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "slipway: There is not enough memory; use a smaller batch or model.\n");
    return exit_status(ErrorCode::kOutOfMemory);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "slipway: internal error, please report it: %s\n", visible(error.what(), true).c_str());
    return exit_status(ErrorCode::kInternal);
  }
}
