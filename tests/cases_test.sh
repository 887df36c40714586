#!/bin/bash
# Small models that once went wrong, each with what is right for it, in every way to run them: as they are, with
# --no-optimize, by the reference, after `optimize`, and from plans built without timing and with an empty timing cache.
# Usage: cases_test.sh PROGRAM [CASE…], in the source folder. The cases lie in the folder SLIPWAY_CASES (default
# ../shared/cases): NAME/model.onnx with test_data_set_0, or with data.yaml where `quantize` is what went wrong, or
# original.onnx and candidate.onnx that `verify` must not pass. Without the folder there is nothing to test.
set -u
slipway=$(realpath "$1")
shift
python=/usr/bin/python3
cases=${SLIPWAY_CASES:-../shared/cases}
if [ ! -d "$cases" ]; then
  echo "SKIP: there are no cases in $cases"
  exit 0
fi
cases=$(realpath "$cases")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache TMPDIR=$work OMP_WAIT_POLICY=passive
cd "$work" || exit 1
failures=0

pass() { echo "PASS $1"; }
miss() {
  echo "FAIL $1: $2"
  sed 's/^/    /' err out 2>/dev/null | tail -4
  failures=$((failures + 1))
}
# works NAME ARGUMENT…: exit 0.
works() {
  local name=$1 status
  shift
  "$slipway" "$@" >out 2>err
  status=$?
  if [ $status -eq 0 ]; then pass "$name"; else miss "$name" "exit $status"; fi
  return $status
}
# The options of `build` that give every dimension the size that the case's inputs have.
shapes_of() {
  "$python" - "$1" "$2" <<'PY'
import sys
import onnx
model, folder = onnx.load(sys.argv[1]), sys.argv[2]
constants = {t.name for t in model.graph.initializer}
batch = None
for i, port in enumerate(p for p in model.graph.input if p.name not in constants):
    given = onnx.TensorProto.FromString(open(f"{folder}/input_{i}.pb", "rb").read()).dims
    if batch is None and len(given) > 0:
        batch = given[0]
        print(f"--batch={batch}")
    for axis, dim in enumerate(port.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value"):
            print(f"--dim={port.name}.{axis}={given[axis]}")
PY
}
# checks NAME FILE: ONNX's own checker accepts the file (if it is old enough for Debian's), and no two nodes of one
# graph have the same name.
checks() {
  if "$python" - "$2" >out 2>err <<'PY'; then pass "$1"; else miss "$1" "not accepted by onnx.checker"; fi
import sys
import onnx
def unique(graph):
    names = [n.name for n in graph.node if n.name]
    assert len(set(names)) == len(names), f"two nodes of one name: {sorted(n for n in set(names) if names.count(n) > 1)}"
    for node in graph.node:
        for a in node.attribute:
            for g in [a.g] if a.type == a.GRAPH else a.graphs:
                unique(g)
model = onnx.load(sys.argv[1])
if model.ir_version <= onnx.IR_VERSION:
    onnx.checker.check_model(model, full_check=True)
unique(model.graph)
PY
}

run_case() {
  local name=$1 folder=$cases/$1 data=$cases/$1/test_data_set_0 how tune
  local model=$folder/model.onnx
  works "$name, by the reference" run "$model" --test-data "$data" --engine reference
  works "$name, optimize" optimize "$model" -o "$name.onnx" && {
    checks "$name, optimised file" "$name.onnx"
    works "$name, optimised, by the reference" run "$name.onnx" --test-data "$data" --engine reference
  }
  works "$name, run" run "$model" --test-data "$data"
  works "$name, --no-optimize" run "$model" --test-data "$data" --no-optimize
  works "$name, optimised" run "$name.onnx" --test-data "$data"
  for how in untuned tuned; do
    tune=
    [ $how = untuned ] && tune=--no-tune
    rm -rf "$XDG_CACHE_HOME"
    # shellcheck disable=SC2046
    works "$name, build $how" build "$model" -o "$name.$how.plan" $tune $(shapes_of "$model" "$data") &&
      works "$name, $how plan" run "$name.$how.plan" --test-data "$data"
  done
}

quantize_case() {
  local name=$1 folder=$cases/$1 flags=
  [ "$name" = float-bias ] && flags=--float-bias
  # shellcheck disable=SC2086
  works "$name, quantize" quantize "$folder/model.onnx" --data "$folder/data.yaml" -o "$name.int8.onnx" $flags || return
  checks "$name, quantised file" "$name.int8.onnx"
  local input
  input=$("$python" -c "import onnx; print(onnx.load('$folder/model.onnx').graph.input[0].name)")
  for engine in slipway reference; do
    mkdir -p "$name.$engine"
    works "$name, quantised, $engine" run "$name.int8.onnx" --input "$input=$folder/x.npy" --engine "$engine" \
      --output-dir "$name.$engine"
  done
  if "$python" - "$name.slipway/0.npy" "$name.reference/0.npy" >out 2>err <<'PY'; then
import sys
import numpy as np
ours, reference = np.load(sys.argv[1]), np.load(sys.argv[2])
off = np.abs(ours - reference).max()
assert off <= 1e-5 * max(1, np.abs(reference).max()), f"off by {off}"
PY
    pass "$name, the engine computes what the file says"
  else
    miss "$name, the engine computes what the file says" "$(tail -1 err)"
  fi
}

verify_case() {
  local name=$1 folder=$cases/$1 status
  "$slipway" verify "$folder/original.onnx" "$folder/candidate.onnx" --data "$folder/d.yaml" --quick --no-tune \
    --report "$name.html" --report-json "$name.json" >out 2>err
  status=$?
  if [ $status -eq 1 ]; then pass "$name, not passed"; else miss "$name" "exit $status, not 1"; fi
}

[ $# -gt 0 ] || set -- $(ls "$cases")
for name in "$@"; do
  if [ -f "$cases/$name/candidate.onnx" ]; then
    verify_case "$name"
  elif [ -f "$cases/$name/data.yaml" ]; then
    quantize_case "$name"
  elif [ -d "$cases/$name/test_data_set_0" ]; then
    run_case "$name"
  fi
done
echo "$failures failed"
[ "$failures" -eq 0 ]
