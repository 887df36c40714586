#!/usr/bin/env bash
# The figures of the speed models: FP32 against INT8 at batch 1 and 32 on one and two threads.
#   bench.sh PROGRAM [--peers PYTHON] [MODEL.onnx DATA.yaml]…
# Without models: the bundled one and, where the folder SLIPWAY_ASSETS (default ../shared/assets) is there, ResNet-20 and
# ResNet-56 on CIFAR-10. --peers names a Python that has onnxruntime and numpy: ONNX Runtime is then timed in the same
# rounds, its classes are compared with ours on every test image, and what we wrote of each case in SLIPWAY_CASES (default
# ../shared/cases) it has to load and to compute alike.
set -euo pipefail
program=$1
shift
peers=
[ "${1:-}" = --peers ] && { peers=$2; shift 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
assets=${SLIPWAY_ASSETS:-../shared/assets}
if [ $# -eq 0 ]; then
  set -- models/fashion_mnist_resnet.onnx examples/fashion_mnist.yaml
  if [ -d "$assets/data/cifar10" ]; then
    sed "s|ASSETS|$(realpath "$assets")|" bench/cifar10.yaml.in >"$work/cifar10.yaml"
    set -- "$@" "$assets/onnx/resnet20_cifar10.onnx" "$work/cifar10.yaml" "$assets/onnx/resnet56_cifar10.onnx" "$work/cifar10.yaml"
  fi
fi
while [ $# -ge 2 ]; do
  model=$1 data=$2
  shift 2
  name=$(basename "$model" .onnx)
  int8=$work/$name.int8.onnx
  printf '\n== %s\n' "$name"
  "$program" quantize "$model" --data "$data" -o "$int8"
  for file in "$model" "$int8"; do
    "$program" data preview "$file" "$data" --samples 10000 -o "$work/preview.html" --json |
      sed -n 's/.*"accuracy":\([0-9.]*\).*/\1/p' | awk -v f="$(basename "$file")" '{printf "%s: top-1 %.2f %%\n", f, 100 * $1}'
  done
  for threads in 1 2; do
    for batch in 1 32; do
      if [ -n "$peers" ]; then
        "$peers" bench/peers.py "$program" "$model" "$int8" --threads "$threads" --batch "$batch"
      else
        "$program" bench "$model" "$int8" --threads "$threads" --batch "$batch"
      fi
    done
  done
  [ -z "$peers" ] || "$peers" bench/agreement.py "$program" "$model" "$int8" --data "$data"
done
cases=${SLIPWAY_CASES:-../shared/cases}
if [ -n "$peers" ] && [ -d "$cases" ]; then
  printf '\n== files written, in ONNX Runtime\n'
  for data in "$cases"/*/test_data_set_0; do
    case=$work/cases/$(basename "$(dirname "$data")")
    mkdir -p "$case"
    cp -r "$data" "$data/../model.onnx" "$case"
    "$program" optimize "$case/model.onnx" -o "$case/optimized.onnx" >"$work/optimize"
  done
  "$peers" bench/conformance.py "$work/cases"
fi
