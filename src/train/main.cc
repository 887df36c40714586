// slipway-torch: what needs libtorch, in a program of its own, started by slipway. The job comes as JSON on standard
// input; epochs, and the result or an error, go out as JSON lines on standard output; progress for people goes to
// standard error.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "train/job.h"

namespace slipway {
namespace {

using nlohmann::json;

void say(const json& message) {
  std::printf("%s\n", message.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

int say_error(ErrorCode code, const std::string& message) {
  say({{"error", {{"code", static_cast<int>(code)}, {"message", message}}}});
  return exit_status(code);
}

int run() {
  try {
    const std::string text(std::istreambuf_iterator<char>(std::cin), {});
    const json job = json::parse(text);
    const QatFiles files{job.at("model"), job.at("data"), job.at("output")};
    const QatOptions options = qat_options_from_json(job.at("options"));
    if (options.quiet) silence_progress();
    const QatResult result = run_job(files, options, [](const QatEpoch& epoch) { say({{"epoch", to_json(epoch)}}); });
    say({{"result", to_json(result)}});
    return 0;
  } catch (const Error& error) {
    return say_error(error.code(), error.what());
  } catch (const json::exception& error) {
    return say_error(ErrorCode::kInvalidArgument, std::string("The job is not one of slipway's: ") + error.what());
  } catch (const std::exception& error) {
    return say_error(ErrorCode::kInternal, error.what());
  }
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  if (argc != 2 || std::string_view(argv[1]) != "qat") {
    std::fprintf(stderr, "slipway-torch is started by slipway: slipway qat --help\n");
    return 2;
  }
  slipway::catch_interrupts();
  return slipway::run();
}
