// slipway prepare: not for people. A server starts it to make one version of a model ready (serve/prepare.h).
#include "serve/prepare.h"

#include "cli/cli.h"

namespace slipway {

void add_prepare(Cli& cli) {
  cli.app.add_subcommand("prepare", "A server's own: makes a version ready in a process apart")
      ->group("")
      ->callback([] { run_preparation(); });
}

}  // namespace slipway
