// One load: checks what was asked, picks the transport, and keeps the server's process in view meanwhile.
#include "load/load.h"

#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "load/transport.h"

namespace slipway {
namespace {

constexpr int kMaxConcurrency = 16384;

void require_sound(const LoadOptions& o, const Url& url, const std::vector<LoadSample>& samples) {
  if (samples.empty()) fail(ErrorCode::kInvalidArgument, "A load needs samples to send; there are none.");
  if (o.concurrency < 1 || o.concurrency > kMaxConcurrency)
    fail(ErrorCode::kInvalidArgument, "Concurrency is a number from 1 to {}: {}", kMaxConcurrency, o.concurrency);
  if (!(o.rate >= 0 && o.rate <= 1e7))
    fail(ErrorCode::kInvalidArgument, "A rate is a number of requests a second, at most ten million: {}", o.rate);
  if (!(o.seconds > 0 && o.seconds <= 1e8 && o.warm_up_seconds >= 0 && o.warm_up_seconds <= 1e8 &&
        o.timeout_seconds > 0 && o.timeout_seconds <= 1e6))
    fail(ErrorCode::kInvalidArgument,
         "Durations are positive numbers of seconds: {} of load, {} of warm-up, {} until a request is given up",
         o.seconds, o.warm_up_seconds, o.timeout_seconds);
  if (o.predict && is_grpc(url))
    fail(ErrorCode::kInvalidArgument, "Pictures go to POST /predict over HTTP; give the server's http:// URL: '{}'",
         o.url);
  if (o.predict && o.on_scores)
    fail(ErrorCode::kInvalidArgument, "POST /predict returns no scores; send tensors instead.");
  for (const LoadSample& sample : samples)
    if (o.predict ? sample.picture.empty() : sample.inputs.empty())
      fail(ErrorCode::kInvalidArgument, "A sample holds nothing to send: it needs {}",
           o.predict ? "a picture for /predict" : "the model's inputs");
}

}  // namespace

LoadResult run_load(const LoadOptions& asked, const std::vector<LoadSample>& samples) {
  LoadOptions options = asked;
  const Url url = parse_load_url(options.url);
  require_sound(options, url, samples);
  if (options.model.empty() && !options.predict) options.model = only_model(options.url, options.tls);
  std::unique_ptr<ServerWatch> watch;
  std::function<ServerFacts()> server;
  if (!options.admin_url.empty()) {
    watch = std::make_unique<ServerWatch>(options.admin_url, options.tls);
    server = [&] { return watch->latest(); };
  }
  LoadRun run(options, samples, now_ns(), server);
  (is_grpc(url) ? load_over_grpc : load_over_http)(url, options, samples, run);
  LoadResult result = run.result(now_ns());
  result.model = options.model;
  return result;
}

}  // namespace slipway
