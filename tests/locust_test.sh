#!/bin/bash
# Locust against `slipway serve`: examples/locustfile.py for a few seconds, not one failure. Usage: locust_test.sh PROGRAM,
# in the source folder.
set -u
slipway=$(realpath "$1")
source=$PWD
python=/usr/bin/python3
for need in "$python -c 'import locust'" "test -f /usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"; do
  if ! bash -c "$need" >/dev/null 2>&1; then
    echo "SKIP locust: '$need' fails; install python3-locust and dataset-fashion-mnist"
    exit 0
  fi
done
work=$(mktemp -d)
server=
finish() {
  [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
export XDG_CACHE_HOME=$work/cache TMPDIR=$work
miss() {
  echo "FAIL locust: $1"
  tail -20 "$work/serve.log" "$work/locust.log" 2>/dev/null
  exit 1
}

mkdir -p "$work/repository/fashion/1"
cp "$source/models/fashion_mnist_resnet.onnx" "$work/repository/fashion/1/model.onnx"
cat >"$work/repository/fashion/config.yaml" <<'Y'
preprocess: {color: gray, scale: 1/255, mean: [0.2860], std: [0.3530], layout: nchw}
classes: [T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot]
Y
"$slipway" serve "$work/repository" --http-port 0 --grpc-port 0 --admin-port 0 --allow-unverified >"$work/serve.log" 2>&1 &
server=$!
for _ in $(seq 600); do
  port=$(grep -oiE 'http[^0-9]*(//)?127\.0\.0\.1:[0-9]+' "$work/serve.log" | head -1 | grep -oE '[0-9]+$')
  [ -n "$port" ] && "$python" - "$port" 2>/dev/null <<'P' && break
import sys, urllib.request
sys.exit(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/v2/health/ready", timeout=2).status != 200)
P
  kill -0 "$server" 2>/dev/null || miss "the server ended"
  sleep 0.1
done
[ -n "${port:-}" ] || miss "the server did not say its port"

cd "$work" || exit 1
SLIPWAY_NO_WAIT=1 "$python" -m locust -f "$source/examples/locustfile.py" --host "http://127.0.0.1:$port" --headless \
  --users 4 --spawn-rate 4 --run-time 4s --csv "$work/result" >"$work/locust.log" 2>&1 ||
  miss "locust's exit status tells of failures"
"$python" - "$work/result_stats.csv" <<'P' || miss "requests failed, or too few were made"
import csv, sys
rows = {row["Name"]: row for row in csv.DictReader(open(sys.argv[1]))}
total = rows["Aggregated"]
print(f"PASS locust: {total['Request Count']} requests, {total['Failure Count']} failures, {total['Requests/s'][:7]}/s")
assert int(total["Failure Count"]) == 0 and int(total["Request Count"]) >= 40
assert all(int(rows[name]["Request Count"]) > 0 for name in ("/predict (file)", "/predict (JSON)"))
P
