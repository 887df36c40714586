#!/usr/bin/env bash
# The road on real data: inspect, optimise, quantise, verify, and the ladder; a candidate broken on purpose, which
# verification must refuse. Then into traffic: the original goes live, the INT8 model replaces it by a canary under a load
# of test images, and the broken one, let past by a lax policy, must be caught by the canary and sent back. `./dev demo`
# runs it; its only argument is the program. Nothing is left running.
set -euo pipefail
slipway=$1
out=demo-out
model=models/fashion_mnist_resnet.onnx
data=examples/fashion_mnist.yaml
mkdir -p "$out"
step() { printf '\n\033[1m── %s\033[0m\n$ %s\n' "$1" "$2"; }
repository=$out/repository
server_pid() { sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$repository/.slipway/server.json" 2>/dev/null || true; }
stop_server() {
  local pid
  pid=$(server_pid)
  [ -z "$pid" ] && return
  kill "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}
trap stop_server EXIT
stop_server # of a demo that was killed
rm -rf "$repository"
value() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" | head -n1; }

step "What the model is" "slipway inspect $model"
"$slipway" inspect "$model"

step "Optimise the graph" "slipway optimize $model -o $out/model.opt.onnx"
"$slipway" optimize "$model" -o "$out/model.opt.onnx"

step "Quantise to INT8 with 500 training images" "slipway quantize $out/model.opt.onnx --data $data -o $out/model.int8.onnx"
"$slipway" quantize "$out/model.opt.onnx" --data "$data" -o "$out/model.int8.onnx"

step "Verify it against the original on the 10,000 test images" "slipway verify $model $out/model.int8.onnx --data $data --report $out/report.html"
"$slipway" verify "$model" "$out/model.int8.onnx" --data "$data" --report "$out/report.html" --report-json "$out/report.json"

step "The ladder" "slipway bench …, slipway data preview …"
printf '%-10s %10s %12s %12s %10s %10s\n' "" accuracy "latency ms" "images/s" size memory
for rung in "original $model" "optimised $out/model.opt.onnx" "INT8 $out/model.int8.onnx"; do
  read -r name file <<<"$rung"
  single=$("$slipway" bench "$file" --seconds 1 --json)
  batch=$("$slipway" bench "$file" --seconds 1 --batch 32 --json)
  accuracy=$("$slipway" data preview "$file" "$data" --samples 10000 -o "$out/preview-$name.html" --json | value accuracy)
  printf '%-10s %9.2f%% %12.3f %12.0f %7.0f KB %7.1f MB\n' "$name" "$(awk "BEGIN{print 100*$accuracy}")" \
    "$(value latency_ms_median <<<"$single")" "$(value throughput_per_s <<<"$batch")" \
    "$(awk "BEGIN{print $(stat -c %s "$file")/1000}")" "$(awk "BEGIN{print $(value peak_rss_over_start_bytes <<<"$single")/1e6}")"
done
echo "(latency at batch 1, images a second at batch 32, one thread; memory is the peak above the process's start)"

step "A candidate broken on purpose" "the INT8 weights of blocks.3.conv2 are overwritten with zeros"
cp "$out/model.int8.onnx" "$out/broken.onnx"
weights=blocks.3.conv2.weight_scaled_quantized
# The tensor's bytes follow its name in the file (protobuf fields 8 and 9).
offset=$(grep -obUa "$weights" "$out/broken.onnx" | tail -n1 | cut -d: -f1)
for candidate in $(grep -obUa "$weights" "$out/broken.onnx" | cut -d: -f1); do
  next=$(dd if="$out/broken.onnx" bs=1 skip=$((candidate + ${#weights})) count=1 status=none | od -An -tx1 | tr -d ' ')
  [ "$next" = 4a ] && offset=$candidate
done
dd if=/dev/zero of="$out/broken.onnx" bs=1 seek=$((offset + ${#weights} + 8)) count=20000 conv=notrunc status=none
echo "This one is wrong, and we say so: verification must refuse it."
if "$slipway" verify "$model" "$out/broken.onnx" --data "$data" --quick --report "$out/broken.report.html" --report-json "$out/broken.report.json"; then
  echo "The broken candidate passed: that is a bug." >&2
  exit 1
fi
echo "Refused, as it must be."

ship() { "$slipway" ship "$model" --data "$data" --repository "$repository" --name fashion --quick "$@"; }
ports=(--http-port 0 --grpc-port 0 --admin-port 0)

step "Into traffic: the original, in FP32, goes live as version 1" \
  "slipway ship $model --data $data --repository $repository --name fashion --skip-quantize --quick"
ship --skip-quantize "${ports[@]}"
url() { sed -n "s/.*\"$1_port\":\([0-9]*\).*/http:\/\/127.0.0.1:\1/p" "$repository/.slipway/server.json"; }
http=$(url http) admin=$(url admin)

cat >"$out/steps.yaml" <<'YAML'
# A canary in under a minute, for a demo; `slipway rollout init` prints the default, which takes its time.
steps:
  - {share: 0.05, min_seconds: 3, min_requests: 100}
  - {share: 0.25, min_seconds: 3, min_requests: 300}
  - {share: 1, min_seconds: 3, min_requests: 1000}
YAML
step "INT8 becomes version 2 by a canary, under a load of real test images" \
  "slipway ship $model --data $data --repository $repository --name fashion --steps $out/steps.yaml --quick"
printf 'Watch it: \033[1m%s/\033[0m\n\n' "$admin"
start=$SECONDS
ship --steps "$out/steps.yaml"
shipped=$((SECONDS - start))

cat >"$out/lax.yaml" <<'YAML'
# A policy that forgives nearly everything: what verification would have refused gets as far as the canary.
accuracy: {max_drop_points: 100, max_class_drop_points: 100, max_edge_case_drop_points: 100, require_better_than_chance: no}
output: {min_cosine: -1}
stability: {max_new_nonfinite: 1000000}
YAML
step "The broken candidate again: a lax policy lets it pass, the canary must catch it" \
  "slipway ship $model --candidate $out/broken.onnx --policy $out/lax.yaml --repository $repository --name fashion …"
printf 'Its answers are off, and we say so. Watch it: \033[1m%s/\033[0m\n\n' "$admin"
status=0
ship --candidate "$out/broken.onnx" --policy "$out/lax.yaml" --steps "$out/steps.yaml" | tee "$out/broken.ship.txt" || status=$?
if [ "$status" -ne 1 ] || ! grep -q 'Version 3 is rolled back' "$out/broken.ship.txt"; then
  echo "The canary did not send the broken candidate back: that is a bug." >&2
  exit 1
fi
echo "Caught and rolled back, as it must be."

step "What happened" "slipway rollout history fashion --url $admin"
"$slipway" rollout history fashion --url "$admin"

step "The live version under load" "slipway load $http --model fashion --data $data --concurrency 4 --duration-s 4; … --predict"
tensors=$("$slipway" load "$http" --model fashion --data "$data" --concurrency 4 --duration-s 4 --admin "$admin" --json)
pictures=$("$slipway" load "$http" --model fashion --data "$data" --concurrency 4 --duration-s 4 --predict --json)
drill=$("$slipway" rollout drill fashion --url "$admin" --json)
report() { # NAME JSON
  printf '%-22s %8.0f images/s   p50 %6.2f ms   p99 %6.2f ms   errors %s\n' "$1" "$(value throughput_per_s <<<"$2")" \
    "$(value p50_ms <<<"$2")" "$(value p99_ms <<<"$2")" "$(awk "BEGIN{print 100*$(value error_rate <<<"$2")}") %"
}
stop_server

step "Summary" "version 2 (INT8) is live, version 3 was rolled back"
report "tensors over HTTP" "$tensors"
report "PNG files, /predict" "$pictures"
printf 'to promotion           %8d s\n' "$shipped"
printf 'rollback               %8s from the decision; in a drill %.2f ms until requests felt it\n' "$(sed -n 's/.*, \([0-9.]* µs\) after the decision.*/\1/p' "$out/broken.ship.txt")" \
  "$(awk "BEGIN{print $(value effective_us <<<"$drill")/1000}")"
printf '\nReport of the good candidate:     %s\nReport of the broken candidate:   %s\nRepository, reports in it:        %s\n' \
  "$out/report.html" "$out/broken.report.html" "$repository"
