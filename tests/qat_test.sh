#!/bin/bash
# `slipway qat` as a user runs it, on the bundled model: trains, goes on after kill -9 to the very same model, keeps a
# checkpoint at an interrupt, survives a disk that is full for checkpoints, ships what the policy asks for.
# Usage: qat_test.sh PROGRAM, in the source folder.
set -u
slipway=$(realpath "$1")
model=$(realpath models/fashion_mnist_resnet.onnx)
python=/usr/bin/python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache TMPDIR=$work
cd "$work" || exit 1
[ -x "$(dirname "$slipway")/slipway-torch" ] || { echo "SKIP this build has no slipway-torch"; exit 0; }
[ -e /usr/share/datasets/fashion-mnist ] || { echo "SKIP dataset-fashion-mnist is not installed"; exit 0; }
failures=0
folder=/usr/share/datasets/fashion-mnist
cat >data.yaml <<YAML
format: idx
calibration: {images: $folder/train-images-idx3-ubyte.gz, labels: $folder/train-labels-idx1-ubyte.gz, count: 100}
test: {images: $folder/t10k-images-idx3-ubyte.gz, labels: $folder/t10k-labels-idx1-ubyte.gz, count: 300}
preprocess: {color: gray, scale: 1/255, mean: [0.2860], std: [0.3530]}
YAML

pass() { echo "PASS $1"; }
miss() {
  echo "FAIL $1: $2"
  tail -8 out err 2>/dev/null | sed 's/^/    /'
  failures=$((failures + 1))
}
options=("$model" --data data.yaml --samples 600 --epochs 2 --threads 1)
qat() { "$slipway" qat "${options[@]}" "$@"; }
# digest FILE: of the model without its metadata, which holds times.
digest() {
  $python -c 'import hashlib, onnx, sys
model = onnx.load(sys.argv[1])
del model.metadata_props[:]
print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())' "$1"
}
# wait_for PATTERN FILE
wait_for() {
  for _ in $(seq 1200); do
    grep -q "$1" "$2" 2>/dev/null && return
    sleep 0.05
  done
}

if qat -o whole.onnx --report page.html --json >out 2>err; then
  for part in '"accuracy"' '"disagreements":\[\]' '"unequal_elements":0' '"equal":300'; do
    grep -q "$part" out || miss "train" "no $part in the result"
  done
  grep -q "canvas" page.html || miss "train" "the page has no chart"
  [ ! -e whole.onnx.checkpoint ] || miss "train" "the checkpoint stays"
  "$slipway" inspect whole.onnx >out 2>err || miss "train" "the result can't be read"
  pass "train"
else
  miss "train" "status $?"
fi

if $python -c 'import onnx' 2>/dev/null; then
  # Killed in its last epoch or after it: the table's lines tell.
  rm -f out
  "$slipway" qat "${options[@]}" -o killed.onnx >out 2>err &
  parent=$!
  wait_for '^ *1 ' out
  pkill -9 -P $parent slipway-torch
  wait $parent
  [ $? -ne 0 ] || miss "kill" "it did not notice"
  [ -e killed.onnx.checkpoint ] || miss "kill" "there is no checkpoint"
  [ ! -e killed.onnx ] || miss "kill" "there is an output"
  qat -o killed.onnx >out 2>err || miss "resume" "status $?"
  grep -q "Going on from the checkpoint" err || miss "resume" "it does not say so"
  if [ "$(digest killed.onnx)" = "$(digest whole.onnx)" ]; then pass "resume after kill -9"; else miss "resume" "another model"; fi

else
  echo "SKIP resume: python3-onnx is not installed"
fi

rm -f out
"$slipway" qat "${options[@]}" -o stopped.onnx >out 2>err &
parent=$!
wait_for '^ *0 ' out
kill -TERM $parent
wait $parent
status=$?
if [ $status -eq 130 ] && [ -e stopped.onnx.checkpoint ] && [ ! -e stopped.onnx ]; then pass "interrupt"; else miss "interrupt" "status $status"; fi
qat -o stopped.onnx --learning-rate 0.5 >out 2>err && miss "checkpoint" "another training's was taken"
grep -q "another training" err || miss "checkpoint" "no reason given"

mkdir folder
qat -o gone.onnx --checkpoint folder >out 2>err
[ $? -eq 2 ] && grep -q "folder" err && pass "a checkpoint that is a folder" || miss "a checkpoint that is a folder" "taken"

# However it is spelled, nothing that is read is written over.
cp "$model" own.onnx
digests=$(cat own.onnx data.yaml | sha256sum)
for output in ./own.onnx "$PWD/folder/../own.onnx" data.yaml; do
  for verb in "qat --epochs 1" quantize; do
    "$slipway" $verb own.onnx --data data.yaml -o "$output" >out 2>err
    [ $? -eq 2 ] && grep -q "would" err || miss "$verb -o $output" "not refused"
  done
done
[ "$digests" = "$(cat own.onnx data.yaml | sha256sum)" ] && pass "sources stay" || miss "sources stay" "written over"

if $python -c 'import numpy' 2>/dev/null; then
  $python -c 'import numpy as np
x, y = np.random.default_rng(0).random((64, 1, 28, 28), np.float32), np.arange(64) % 10
np.save("t.npy", x); np.save("x.npy", x); np.save("y.npy", y)
y[5] = 10; np.save("beyond.npy", y)
x[7, 0, 3, 3] = np.nan; np.save("nan.npy", x)'
  for pair in "x beyond" "nan y"; do
    set -- $pair
    echo "{format: npy, inputs: t.npy, labels: y.npy, calibration: {count: 32}, train: {inputs: $1.npy, labels: $2.npy}}" >"$1-$2.yaml"
  done
  "$slipway" qat "$model" --data x-beyond.yaml --epochs 1 -o bad.onnx >out 2>err
  [ $? -eq 2 ] && grep -q "beyond the model's 10 scores.*: 10 of .*x.npy\[5\]" err && pass "a label beyond the scores" || miss "a label beyond the scores" "not refused"
  "$slipway" qat "$model" --data nan-y.yaml --epochs 1 -o bad.onnx >out 2>err
  [ $? -eq 2 ] && grep -q "NaN or infinity.*\[7\]" err && pass "NaN in a sample" || miss "NaN in a sample" "not refused"
fi

# A checkpoint that finds no room costs a warning; /dev/full takes no byte.
if [ -e /dev/full ] && [ -w /dev/shm ]; then
  small=$(mktemp -d)
  if mount -t tmpfs -o size=64k none "$small" 2>/dev/null; then
    if qat -o room.onnx --checkpoint "$small/c" >out 2>err && grep -q "no checkpoint is kept" err; then pass "full disk"; else miss "full disk" "status $?"; fi
    umount "$small"
  else
    echo "SKIP full disk: no right to mount a small one"
  fi
  rmdir "$small"
fi

# The policy asks for 4 bits: the rule says training.
cat >policy.yaml <<'YAML'
accuracy: {max_drop_points: 2, max_class_drop_points: 50, max_edge_case_drop_points: 50}
output: {min_cosine: 0.9}
performance: {max_latency_ratio: 100, max_memory_increase_percent: 1000}
quantization: {weight_bits: 4}
YAML
if "$slipway" ship "$model" --data data.yaml --policy policy.yaml --quick --samples 100 --no-tune --work road >out 2>err; then
  grep -q "QAT: weights of 4 bits" out && pass "ship" || miss "ship" "no reason given"
else
  miss "ship" "status $?"
fi

[ $failures -eq 0 ] && echo "all good"
exit $((failures > 0))
