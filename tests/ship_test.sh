#!/bin/bash
# `slipway ship` end to end on loopback with the bundled model: a first version, a promoted one, one that the canary
# sends back, one that verification refuses, an interrupted simulation and canary. Usage: ship_test.sh PROGRAM, in the source folder.
set -u
slipway=$(realpath "$1")
model=$(realpath models/fashion_mnist_resnet.onnx)
data=$(realpath examples/fashion_mnist.yaml)
python=/usr/bin/python3
work=$(mktemp -d)
server=
repository=$work/repository
server_pid() { sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$repository/.slipway/server.json" 2>/dev/null; }
finish() {
  local pid
  pid=$(server_pid)
  [ -n "${pid:-$server}" ] && kill "${pid:-$server}" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
mkdir "$work/tmp" "$work/cache"
export XDG_CACHE_HOME=$work/cache TMPDIR=$work/tmp
cd "$work" || exit 1
[ -e /usr/share/datasets/fashion-mnist ] || { echo "SKIP dataset-fashion-mnist is not installed"; exit 0; }
failures=0
policy=policy.yaml

pass() { echo "PASS $1"; }
miss() {
  echo "FAIL $1: $2"
  sed 's/^/    out: /' out | tail -12
  sed 's/^/    err: /' err | tail -5
  tail -5 "$repository/.slipway/serve.log" 2>/dev/null | sed 's/^/    serve: /'
  failures=$((failures + 1))
}
# ships NAME STATUS ARGUMENT…: the exit status of ship with these.
ships() {
  local name=$1 want=$2 status
  shift 2
  "$slipway" ship "$model" --data "$data" --name net --quick --samples 200 --no-tune --policy "$policy" \
    --http-port 0 --grpc-port 0 --admin-port 0 "$@" >out 2>err
  status=$?
  if [ $status -eq "$want" ]; then pass "$name"; else miss "$name" "exit $status, not $want"; fi
}
says() { if grep -qE -- "$2" out err; then pass "$1"; else miss "$1" "no '$2'"; fi; }
# live NAME VERSION: the version that answers.
live() {
  local got
  got=$("$python" - "$repository" <<'PY'
import json, sys, urllib.request
server = json.load(open(sys.argv[1] + "/.slipway/server.json"))
print(json.load(urllib.request.urlopen("http://127.0.0.1:%d/api/rollouts/net" % server["admin_port"]))["stable"])
PY
  )
  if [ "$got" = "$2" ]; then pass "$1"; else miss "$1" "version '$got' is live, not $2"; fi
}

# Times on a busy machine prove nothing here.
cat >policy.yaml <<'Y'
performance: {max_latency_ratio: 100, min_rounds: 1, memory_slack_mib: 1000}
accuracy: {max_drop_points: 5, max_class_drop_points: 50, max_edge_case_drop_points: 50}
simulation: {max_p99_ratio: 1000, min_seconds: 1}
Y
cat >lax.yaml <<'Y'
performance: {max_latency_ratio: 100, min_rounds: 1, memory_slack_mib: 1000}
accuracy: {max_drop_points: 100, max_class_drop_points: 100, max_edge_case_drop_points: 100, require_better_than_chance: no}
output: {min_cosine: -1}
stability: {max_new_nonfinite: 1000}
simulation: {max_p99_ratio: 1000, min_seconds: 1}
Y
limits='max_latency_ratio: 1000, max_slow_share: 1, max_error_increase: 0.5'
cat >steps.yaml <<Y
steps:
  - {share: 0.2, min_seconds: 1, min_requests: 100, max_confidence_shift: 0.3, $limits}
  - {share: 1, min_seconds: 1, min_requests: 100, max_confidence_shift: 0.3, $limits}
Y

ships "the first version goes live" 0 --repository "$repository" --skip-quantize
server=$(server_pid)
says "started a server" "started a server at http"
says "went live by its report" "went live as the first version"
live "version 1 is live" 1
[ -e "$repository/net/1/report.json" ] && [ -e "$repository/net/1/model.plan" ] && pass "published with its proof" ||
  miss "published with its proof" "no report or plan"

ships "again, nothing is done twice" 0 --repository "$repository" --skip-quantize
[ "$(grep -c 'already done' out)" -eq 6 ] && pass "six stages are already done" || miss "six stages are already done" ""
[ "$(server_pid)" = "$server" ] && pass "the running server is found" || miss "the running server is found" ""

"$slipway" ship "$model" --data "$data" --name net --quick --samples 200 --no-tune --policy policy.yaml --repository "$repository" \
  --skip-quantize --from simulate >out 2>err &
ship=$!
for _ in $(seq 600); do
  ls "$work"/tmp/slipway-simulate-*/repository/.slipway/server.json >/dev/null 2>&1 && break
  sleep 0.1
done
child=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$work"/tmp/slipway-simulate-*/repository/.slipway/server.json 2>/dev/null)
kill -INT $ship
wait $ship
[ $? -eq 130 ] && pass "an interrupted simulation exits 130" || miss "an interrupted simulation exits 130" ""
[ -n "$child" ] && ! kill -0 "$child" 2>/dev/null && pass "its server is gone" || miss "its server is gone" "pid '$child'"
[ -z "$(ls -A "$work/tmp")" ] && pass "nothing is left in the temporary folder" ||
  miss "nothing is left in the temporary folder" "$(ls -A "$work/tmp")"

"$slipway" ship "$model" --data "$data" --name net --quick --no-tune --policy policy.yaml --repository "$repository" \
  --skip-quantize --from verify --seconds 300 >out 2>err &
ship=$!
for _ in $(seq 100); do
  pgrep -P $ship >/dev/null && break
  sleep 0.1
done
sleep 1
kill -INT $ship
timeout 30 tail --pid=$ship -f /dev/null
kill -KILL $ship 2>/dev/null && miss "an interrupted verification ends" "still there after 30 s"
wait $ship
[ $? -eq 130 ] && pass "an interrupted verification exits 130" || miss "an interrupted verification exits 130" ""
[ -z "$(ls -A "$work/tmp")" ] && pass "and leaves nothing in the temporary folder" ||
  miss "and leaves nothing in the temporary folder" "$(ls -A "$work/tmp")"

ships "INT8 is promoted by a canary" 0 --repository "$repository" --steps steps.yaml --rate 300
says "the optimised model is kept" "optimize .*already done"
says "requests were replayed" "promoted after .* requests replayed, 0 failed"
says "the rule chose PTQ first and says why" "PTQ first: no bits below 8, accuracy not critical"
says "and PTQ met the goal" "quantize .* PTQ, top-1 .*, was .* nodes on integers"
live "version 2 is live" 2

echo 'quantization: {accuracy_critical: true}' >>policy.yaml
SLIPWAY_TORCH=/nonexistent ships "QAT is due where the policy changed, and this build has none" 2 --repository "$repository"
says "the optimised model is still kept" "optimize .*already done"
says "with what to do" "slipway-torch is missing.*--strategy ptq"
sed -i '/^quantization:/d' policy.yaml

"$python" - "$repository/net/2/model.onnx" broken.onnx <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
name = b"blocks.3.conv2.weight_scaled_quantized"
at = data.find(name + b"\x4a")  # raw data follows the name
assert at > 0
for i in range(at + len(name) + 8, at + len(name) + 8 + 20000):
    data[i] = 127 if i % 3 else 129
open(sys.argv[2], "wb").write(data)
PY
ships "a broken candidate is refused by verification" 1 --repository "$repository" --candidate broken.onnx
says "with the reason" "verify .*FAILED: .*Top-1"
[ ! -e "$repository/net/3" ] && pass "and is not published" || miss "and is not published" ""

policy=lax.yaml
ships "with a lax policy the canary sends it back" 1 --repository "$repository" --candidate broken.onnx \
  --steps steps.yaml --rate 300
says "for its confidence" "canary .*FAILED: Version 3 is rolled back.*onfidence"
live "version 2 is still live" 2

"$slipway" ship "$model" --data "$data" --name net --quick --samples 200 --no-tune --policy lax.yaml --repository "$repository" \
  --candidate broken.onnx --steps steps.yaml --traffic live >out 2>err &
ship=$!
for _ in $(seq 600); do
  grep -q '20 %' out && break
  sleep 0.1
done
kill -INT $ship
wait $ship
[ $? -eq 130 ] && pass "an interrupted canary exits 130" || miss "an interrupted canary exits 130" ""
says "and is aborted" "The rollout was aborted"
live "version 2 is live after the abort" 2

# By hand: the model first, its proof later, under a server that runs.
admin=$(sed -n 's/.*"admin_port":\([0-9]*\).*/\1/p' "$repository/.slipway/server.json")
rollout() { "$slipway" rollout "$@" --url "http://127.0.0.1:$admin" >out 2>err; }
mkdir "$repository/net/9"
cp "$repository/net/2/model.onnx" "$repository/net/9/"
rollout start net 9; [ $? -eq 1 ] && pass "without a report it is refused" || miss "without a report it is refused" ""
cp "$repository/net/2/report.json" "$repository/net/9/"
rollout start net 9 && pass "a report put there later is seen" || miss "a report put there later is seen" ""
rollout abort net
"$slipway" rollout start net 9 --wait --url "http://127.0.0.1:$admin" >out 2>err &
follower=$!
for _ in $(seq 100); do grep -q started out && break; sleep 0.1; done
kill -INT $follower
wait $follower
[ $? -eq 130 ] && pass "who follows may leave" || miss "who follows may leave" ""
says "and learns that it goes on" "the rollout goes on"
rollout abort net && pass "so it did" || miss "so it did" ""
echo broken >"$repository/net/9/model.onnx"
rollout start net 9; [ $? -eq 2 ] && pass "other bytes are seen, too" || miss "other bytes are seen, too" ""
rollout back net && live "back goes to the version before" 1
rollout back net; [ $? -eq 2 ] && pass "and no further" || miss "and no further" ""
live "which stays live" 1

kill "$server"
for _ in $(seq 200); do
  kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
kill -0 "$server" 2>/dev/null && miss "the server ends" "still there" || pass "the server ends"
server=

echo "$failures failures"
exit $((failures > 0))
