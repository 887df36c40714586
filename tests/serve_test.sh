#!/bin/bash
# `slipway serve` as a process: TLS on all ports for curl and our own clients, certificates renewed by SIGHUP, one server
# a repository, a log that nobody reads, a recording that goes on. Usage: serve_test.sh PROGRAM, in the source folder.
set -u
slipway=$(realpath "$1")
model=$(realpath models/fashion_mnist_resnet.onnx)
for need in curl openssl; do
  command -v $need >/dev/null || { echo "SKIP serve: $need is not installed"; exit 0; }
done
work=$(mktemp -d)
server=
finish() {
  [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
export XDG_CACHE_HOME=$work/cache TMPDIR=$work
cd "$work" || exit 1
failures=0
pass() { echo "PASS $1"; }
miss() {
  echo "FAIL $1"
  tail -5 out err log 2>/dev/null | sed 's/^/    /'
  failures=$((failures + 1))
}
# works NAME COMMAND…, fails NAME COMMAND…: by its exit status.
works() { local name=$1; shift; if "$@" >out 2>err; then pass "$name"; else miss "$name: $*"; fi; }
fails() { local name=$1; shift; if "$@" >out 2>err; then miss "$name: $*"; else pass "$name"; fi; }
says() { if grep -qE -- "$2" "$3"; then pass "$1"; else miss "$1: no '$2' in $3"; fi; }
# eventually NAME PATTERN: the log says so.
eventually() {
  for _ in $(seq 200); do grep -qE -- "$2" log && { pass "$1"; return; }; sleep 0.05; done
  miss "$1: no '$2' in the log"
}
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" \
    -out "$1.crt" 2>/dev/null
}
# issue AUTHORITY NAME: NAME.crt and NAME.key for this machine.
issue() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$2.key" -out "$2.csr" 2>/dev/null
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >names
  openssl x509 -req -in "$2.csr" -CA "$1.crt" -CAkey "$1.key" -CAcreateserial -days 1 -extfile names -out "$2.crt" 2>/dev/null
}
# start ARGUMENT…: a server, its ports in http, grpc and admin.
start() {
  : >json
  "$slipway" serve repository --json --http-port 0 --grpc-port 0 --admin-port 0 --no-tune --allow-unverified "$@" \
    >json 2>>log &
  server=$!
  for _ in $(seq 1200); do
    grep -q admin_port json && break
    kill -0 $server 2>/dev/null || { miss "the server starts"; exit 1; }
    sleep 0.05
  done
  for port in http grpc admin; do eval "$port=$(grep -oE "\"${port}_port\":[0-9]+" json | grep -oE '[0-9]+$')"; done
}
stop() { kill "$server"; wait "$server"; server=; }

mkdir -p repository/fashion/1
cp "$model" repository/fashion/1/model.onnx
authority ca
authority other
issue ca server
issue ca client
issue other renewed

mkdir -p repository/.slipway
echo mine >victim
ln -s ../../victim repository/.slipway/server.json
start --tls-cert server.crt --tls-key server.key
[ "$(cat victim)" = mine ] && pass "a link in the repository leads nobody out" || miss "a link in the repository leads nobody out"
works "TLS for clients without a certificate" curl -sf --max-time 10 --cacert ca.crt "https://localhost:$http/v2/health/ready"
works "over gRPC, too" "$slipway" load "grpcs://localhost:$grpc" --tls-ca ca.crt --requests 5 --warm-up-s 0 --max-error-rate 0
fails "but not without trust" "$slipway" load "grpcs://localhost:$grpc" --requests 1
stop
start --tls-cert server.crt --tls-key server.key --tls-client-ca ca.crt --record live.rec
client="--tls-ca ca.crt --tls-cert client.crt --tls-key client.key"
get="curl -sf --max-time 10 --cert client.crt --key client.key"
works "curl over HTTP" $get --cacert ca.crt "https://localhost:$http/v2/health/ready"
works "curl by address" $get --cacert ca.crt "https://127.0.0.1:$http/v2/models/fashion"
works "curl on the admin port" $get --cacert ca.crt "https://localhost:$admin/metrics"
fails "curl without trust" $get "https://localhost:$http/v2/health/ready"
fails "curl without a certificate" curl -sf --cacert ca.crt "https://localhost:$http/v2/health/ready"
fails "curl in plain text" curl -sf --max-time 5 "http://localhost:$http/v2/health/ready"
fails "TLS 1.1 is not spoken" $get --tls-max 1.1 --cacert ca.crt "https://localhost:$http/v2/health/ready"
works "load over https" "$slipway" load "https://localhost:$http" $client --requests 50 --warm-up-s 0 --max-error-rate 0 \
  --admin "https://localhost:$admin"
works "load over grpcs" "$slipway" load "grpcs://localhost:$grpc" $client --requests 50 --warm-up-s 0 --max-error-rate 0
fails "load without trust" "$slipway" load "https://localhost:$http" --requests 1
says "and says why" "certificate" err
fails "load over grpcs without trust" "$slipway" load "grpcs://localhost:$grpc" --requests 1
works "top" "$slipway" top "https://localhost:$admin" $client --once
works "rollout" "$slipway" rollout status fashion --url "https://localhost:$admin" $client
fails "rollout without trust" "$slipway" rollout status fashion --url "https://localhost:$admin"

fails "a second server on the repository" "$slipway" serve repository --http-port 0 --grpc-port 0 --admin-port 0
says "is refused with a sentence" "Another server serves this repository" err
works "and disturbs nothing" test -e repository/.slipway/server.json

cp server.crt kept.crt && cp server.key kept.key
"$slipway" load "https://localhost:$http" $client --concurrency 4 --duration-s 3 --warm-up-s 0 --max-error-rate 0 >load.out 2>&1 &
under_way=$!
sleep 0.5
cp renewed.key server.key
kill -HUP "$server"
eventually "a pair that does not fit is refused" "The certificates stay as they were: The private key is not that of"
works "the old one is kept" $get --cacert ca.crt "https://localhost:$http/v2/health/ready"
cp renewed.crt server.crt
kill -HUP "$server"
eventually "a new pair is read" "The certificates were read again"
works "new connections get it over HTTP" $get --cacert other.crt "https://localhost:$http/v2/health/ready"
fails "and the old one no more" $get --cacert ca.crt "https://localhost:$http/v2/health/ready"
works "on the admin port" $get --cacert other.crt "https://localhost:$admin/metrics"
works "and over gRPC" "$slipway" load "grpcs://localhost:$grpc" --tls-ca other.crt --tls-cert client.crt --tls-key client.key \
  --requests 5 --warm-up-s 0 --max-error-rate 0
works "connections under way go on" wait $under_way
stop
bytes=$(stat -c %s live.rec)
fails "a certificate without its key" "$slipway" serve repository --tls-cert server.crt
fails "a short token from the environment" env SLIPWAY_ADMIN_TOKEN=short "$slipway" serve repository
says "is refused with a sentence" "An admin token is 16 or more" err

# A log that nobody reads: the reader leaves at once.
mkfifo pipe
(exec 3<pipe) &
"$slipway" serve repository --json --http-port 0 --grpc-port 0 --admin-port 0 --no-tune --allow-unverified \
  --record live.rec >json 2>pipe &
server=$!
for _ in $(seq 1200); do grep -q admin_port json && break; sleep 0.05; done
http=$(grep -oE '"http_port":[0-9]+' json | grep -oE '[0-9]+$')
works "a server whose log is gone answers" "$slipway" load "http://localhost:$http" --requests 20 --warm-up-s 0 --max-error-rate 0
curl -s -X POST "http://localhost:$http/v2/repository/models/none/load" >/dev/null
kill -0 "$server" && pass "and lives on" || miss "and lives on"
stop
if [ "$(stat -c %s live.rec)" -gt "$bytes" ]; then pass "a recording goes on"; else miss "a recording goes on"; fi

# A request that stops arriving holds the end up until the drain timeout, and no longer.
start --drain-timeout-s 1
exec {held}<>"/dev/tcp/127.0.0.1/$http"
printf 'POST /v2/models/fashion/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{' >&"$held"
sleep 0.3
kill "$server"
works "draining ends" timeout 20 tail --pid="$server" -f /dev/null
works "and well" wait "$server"
server=
exec {held}>&-

# With few descriptors connections wait, and the server takes them later.
(ulimit -n 160 && exec "$slipway" serve repository --json --http-port 0 --grpc-port 0 --admin-port 0 --no-tune \
  --allow-unverified >json 2>log) &
server=$!
for _ in $(seq 1200); do grep -q admin_port json && break; sleep 0.05; done
for port in http grpc admin; do eval "$port=$(grep -oE "\"${port}_port\":[0-9]+" json | grep -oE '[0-9]+$')"; done
exec {held}<>/dev/null
for _ in $(seq 200); do exec {fd}<>"/dev/tcp/127.0.0.1/$http" && held="$held $fd"; done
eventually "too many connections are logged" "No connection can be accepted now"
if [ "$(grep -c 'No connection can be accepted' log)" -le 2 ]; then pass "and not over and over"; else miss "a flood in the log"; fi
for fd in $held; do exec {fd}>&-; done
works "HTTP is back" curl -sf --max-time 20 "http://localhost:$http/v2/health/ready"
works "gRPC is back" "$slipway" load "grpc://localhost:$grpc" --requests 5 --warm-up-s 0 --max-error-rate 0
stop
[ $failures -eq 0 ] || { echo "$failures failed"; exit 1; }
