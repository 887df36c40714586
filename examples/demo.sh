#!/usr/bin/env bash
# The road on real data: inspect, optimise, quantise, verify, and the ladder; then a candidate broken on purpose, which
# verification must refuse. `./dev demo` runs it; its only argument is the program.
set -euo pipefail
slipway=$1
out=demo-out
model=models/fashion_mnist_resnet.onnx
data=examples/fashion_mnist.yaml
mkdir -p "$out"
step() { printf '\n\033[1m── %s\033[0m\n$ %s\n' "$1" "$2"; }
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
if "$slipway" verify "$model" "$out/broken.onnx" --data "$data" --samples 2000 --report "$out/broken.report.html" --report-json "$out/broken.report.json"; then
  echo "The broken candidate passed: that is a bug." >&2
  exit 1
fi
printf '\nRefused, as it must be.\n\nReport of the good candidate:   %s\nReport of the broken candidate: %s\n' "$out/report.html" "$out/broken.report.html"
