#!/bin/bash
# The command line end to end, on the bundled model: every verb as its help shows it, and bad input, which must be
# answered by one sentence and exit status 2 with nothing half-written. Usage: cli_test.sh PROGRAM, in the source folder.
set -u
slipway=$(realpath "$1")
model=$(realpath "${2:-models/fashion_mnist_resnet.onnx}")
python=/usr/bin/python3
trained_with=$(realpath examples/fashion_mnist.yaml)
data_set=/usr/share/datasets/fashion-mnist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache TMPDIR=$work OMP_WAIT_POLICY=passive
cp "$model" "$work" && cd "$work" || exit 1  # some verbs write beside the model
model=$work/$(basename "$model")
failures=0

pass() { echo "PASS $1"; }
miss() {
  echo "FAIL $1: $2"
  sed 's/^/    out: /' out 2>/dev/null | tail -5
  sed 's/^/    err: /' err 2>/dev/null | tail -5
  failures=$((failures + 1))
}
# works NAME ARGUMENT…: exit 0.
works() {
  local name=$1 status
  shift
  "$slipway" "$@" >out 2>err
  status=$?
  if [ $status -eq 0 ]; then pass "$name"; else miss "$name" "exit $status"; fi
}
# says NAME TEXT: the last command printed it.
says() { if grep -qF -- "$2" out err; then pass "$1"; else miss "$1" "no '$2'"; fi; }
# json NAME EXPRESSION: the last line on standard output is JSON, of which the expression over j is true.
json() {
  if tail -1 out | "$python" -c "import json, sys; j = json.loads(sys.stdin.read()); assert $2" 2>json_error; then
    pass "$1"
  else
    miss "$1" "$(tail -1 json_error)"
  fi
}
# refuses NAME TEXT ARGUMENT…: exit 2, one line on standard error that holds TEXT, no new file.
refuses() {
  local name=$1 text=$2 before status
  shift 2
  before=$(ls -A | grep -v -e '^out$' -e '^err$')
  "$slipway" "$@" >out 2>err
  status=$?
  if [ $status -ne 2 ]; then
    miss "$name" "exit $status, not 2"
  elif [ "$(grep -vc '^Run with --help' err)" -ne 1 ]; then
    miss "$name" "not one sentence"
  elif ! grep -qiF -- "$text" err; then
    miss "$name" "no '$text'"
  elif [ "$before" != "$(ls -A | grep -v -e '^out$' -e '^err$')" ]; then
    miss "$name" "left something behind"
  else
    pass "$name"
  fi
}
# judged NAME VERDICT ARGUMENT…: exit 1, and the last line of standard output is JSON with that verdict.
judged() {
  local name=$1 verdict=$2 status
  shift 2
  "$slipway" "$@" --json >out 2>err
  status=$?
  if [ $status -ne 1 ]; then miss "$name" "exit $status, not 1"; else json "$name" "j['verdict'] == '$verdict'"; fi
}
# interrupted NAME SECONDS ARGUMENT…: SIGINT ends it with status 130 and no files.
interrupted() {
  local name=$1 seconds=$2 before status
  shift 2
  before=$(ls -A . | grep -e '\.tmp\.' -e slipway-bench -e '^gone')
  timeout --preserve-status -s INT "$seconds" "$slipway" "$@" >out 2>err
  status=$?
  if [ $status -ne 130 ]; then
    miss "$name" "exit $status, not 130"
  elif [ "$before" != "$(ls -A . | grep -e '\.tmp\.' -e slipway-bench -e '^gone')" ]; then
    miss "$name" "left something behind"
  else
    pass "$name"
  fi
}

works "--help" --help
works "--version" --version
for verb in inspect optimize build run bench quantize qat verify conform "data init" "data preview" "policy init"; do
  # shellcheck disable=SC2086
  works "$verb --help" $verb --help
  says "$verb --help shows an example" "Example"
  says "$verb --help shows --json" "--json"
done

works "inspect" inspect "$model"
says "inspect counts operators" "Conv"
works "inspect --json" inspect "$model" --json
json "inspect --json" "j['nodes'] > 5 and j['parameters'] > 1e5 and j['flops'] > 1e6 and j['inputs']"
input=$(tail -1 out | "$python" -c "import json, sys; print(json.load(sys.stdin)['inputs'][0]['name'])")
works "optimize" optimize "$model" -o optimized.onnx
works "optimize --json" optimize "$model" -o optimized.onnx --json
json "optimize removes nodes" "j['nodes_after'] < j['nodes_before']"
works "optimize --list" optimize --list
works "build" build "$model" -o model.plan --no-tune
says "build says what it made" "precision fp32"
works "build --json" build "$model" -o tuned.plan --batch 2 --json
json "build --json" "[s['inputs'][0][0] for s in j['shapes']] == [2] and j['shapes'][0]['plans'][0]['arena_bytes'] >= j['shapes'][0]['plans'][0]['arena_lower_bound_bytes'] > 0"
works "build --shapes" build "$model" -o shapes.plan --no-tune --shapes "$input=1x1x28x28,2..4x1x28x28" --json
json "build --shapes" "[s['inputs'][0][0] for s in j['shapes']] == [1, 2, 4]"
works "inspect --steps of shapes" inspect shapes.plan --steps --json
json "inspect --steps of shapes" "len(j['shapes']) == 3"
works "bench of shapes" bench shapes.plan --batch 2 --seconds 0.1 --rounds 1
works "a plan built anew" build shapes.plan -o again.plan --no-tune --json
json "a plan built anew keeps its shapes" "[s['inputs'][0][0] for s in j['shapes']] == [1, 2, 4]"
works "inspect of shapes" inspect shapes.plan --json
json "inspect names shapes" "[s['$input'][0] for s in j['plan']['shapes']] == [1, 2, 4]"
works "bench --json of shapes" bench shapes.plan --batch 4 --seconds 0.1 --rounds 1 --json
json "bench says what it ran" "j['batch'] == 4 and j['inputs'][0][0] == 4"
refuses "a model as timings" "holds no timings" build "$model" -o x.plan --timing-cache "$model"
refuses "a plan as a model" "This is a plan" optimize shapes.plan -o x.onnx
refuses "a range that runs back" "above its end" build "$model" -o x.plan --shapes "$input=4..2x1x28x28"
refuses "shapes of an unknown input" "no input of this name" build "$model" -o x.plan --shapes nothing=1
refuses "shapes of another rank" "another number of dimensions" build "$model" -o x.plan --shapes "$input=1x1"
refuses "shapes of a fixed size" "is fixed" build "$model" -o x.plan --shapes "$input=1x3x28x28"
refuses "shapes that are none" "FROM..TO" build "$model" -o x.plan --shapes "$input=1xax28x28"
works "inspect --steps of a plan" inspect model.plan --steps
works "inspect --steps --json" inspect model.plan --steps --json
json "inspect --steps --json" "len(j['steps']) > 5"

shape=$("$slipway" inspect "$model" --json | tail -1 | "$python" -c "
import json, re, sys
print(','.join(re.findall(r'\d+', json.load(sys.stdin)['inputs'][0]['shape'].split(',', 1)[1])))")
"$python" - "$shape" <<'P' || { echo "FAIL numpy is needed"; exit 1; }
import sys
import numpy as np
shape = [int(n) for n in sys.argv[1].split(',')]
np.save('x.npy', np.random.RandomState(0).rand(1, *shape).astype('float32'))
np.save('five.npy', np.random.RandomState(1).rand(5, *shape).astype('float32'))
np.save('wrong.npy', np.zeros([1] + [n + 1 for n in shape], 'float32'))
np.save('bytes.npy', np.zeros([1] + shape, 'uint8'))
P
works "run" run "$model" --input "$input=x.npy" --output-dir engine
works "run of the reference" run "$model" --input "$input=x.npy" --output-dir reference --engine reference
works "run of the plan" run model.plan --input "$input=x.npy" --output-dir plan
works "run of what optimize wrote" run optimized.onnx --input "$input=x.npy" --output-dir optimized --engine reference
works "run of five samples" run "$model" --input "$input=five.npy" --output-dir five --json
json "run --json" "j['outputs'][0]['dims'][0] == 5"
if "$python" - <<'P' 2>err; then pass "engine, plan and optimised model agree with the reference"; else miss "engine, plan and optimised model agree with the reference" ""; fi
import numpy as np
r = np.load('reference/0.npy')
assert r.std() > 1e-3
for name in ('engine', 'plan', 'optimized'):
    np.testing.assert_allclose(np.load(name + '/0.npy'), r, rtol=1e-4, atol=1e-5)
P
works "bench --json" bench "$model" --seconds 0.3 --json
json "bench --json" "all(k in j for k in ('latency_ms_median', 'latency_ms_p99', 'throughput_per_s', 'first_result_ms', 'peak_rss_bytes', 'peak_rss_over_start_bytes', 'threads', 'batch', 'precision')) and 0 < j['latency_ms_median'] <= j['latency_ms_p99']"
works "bench side by side" bench "$model" model.plan --seconds 0.2 --rounds 2 --no-tune
says "bench side by side" "speed-up"

cases=/usr/share/libonnx-testdata/data/node
works "conform" conform $cases/test_relu $cases/test_concat_1d_axis_0
says "conform counts each way" "plan: 2 of 2 cases passed, 0 wrong, 0 unsupported"
works "conform --json" conform $cases/test_relu --way engine --json
json "conform's verdict" 'j["cases"] == 1 and j["ways"] == {"engine": {"passed": 1, "wrong": 0, "unsupported": 0}}'
cp -r $cases/test_relu wrong_case && cp $cases/test_abs/test_data_set_0/output_0.pb wrong_case/test_data_set_0
"$slipway" conform wrong_case --json >out 2>err
if [ $? -eq 1 ]; then pass "conform: other outputs"; else miss "conform: other outputs" "not exit 1"; fi
json "conform says what is wrong" 'len(j["failures"]) == 3 and all(f["class"] == "wrong" for f in j["failures"])'

mkdir parts
"$python" - "$model" <<'P' || { echo "FAIL python3-onnx is needed"; exit 1; }
import sys, onnx
onnx.save(onnx.load(sys.argv[1]), 'parts/model.onnx', save_as_external_data=True, location='weights.bin', size_threshold=0)
P
works "run with external data" run parts/model.onnx --input "$input=x.npy" --output-dir external
if cmp -s engine/0.npy external/0.npy; then pass "external data give the same"; else miss "external data give the same" ""; fi
works "inspect with external data" inspect parts/model.onnx --json
json "inspect counts external data" "j['file_bytes'] == $(stat -c %s parts/model.onnx) + $(stat -c %s parts/weights.bin)"
ln -s parts/weights.bin link.bin
for output in parts/weights.bin ./parts/../parts/weights.bin link.bin parts/model.onnx; do
  refuses "optimize: output is $output" "replace" optimize parts/model.onnx -o $output
  refuses "build: output is $output" "replace" build parts/model.onnx -o $output
done
works "build in place of a plan" build model.plan -o model.plan --no-tune

if [ -d $data_set ]; then
  works "data init" data init $data_set -o data.yaml
  refuses "data init over a file" "exists already" data init $data_set -o data.yaml
  works "data init to standard output" data init $data_set
  works "quantize" quantize "$model" --data data.yaml -o model.int8.onnx --samples 32 --json
  json "quantize --json" "j['bytes_after'] < 0.4 * j['bytes_before']"
  works "build of INT8" build model.int8.onnx -o int8.plan --no-tune
  says "build of INT8" "precision int8"
  works "run of INT8" run model.int8.onnx --input "$input=x.npy" --output-dir int8
  works "quantize to INT4 weights" quantize "$model" --data data.yaml -o model.int4.onnx --samples 32 --weight-bits 4 --json
  json "quantize --weight-bits 4 --json" "j['weight_bits'] == 4 and j['bytes_after'] < 0.25 * j['bytes_before']"
  works "run of INT4 weights" run model.int4.onnx --input "$input=x.npy" --output-dir int4
  refuses "quantize: weight bits without a grid" "8 bits or 4" quantize "$model" --data data.yaml -o gone.onnx --weight-bits 3
  refuses "quantize: absent model" "no such file" quantize absent.onnx --data data.yaml -o gone.onnx
  refuses "quantize: absent data" "no such file" quantize "$model" --data absent.yaml -o gone.onnx
  refuses "quantize: unknown method" "method" quantize "$model" --data data.yaml -o gone.onnx --method magic
  refuses "quantize: unwritable output" "written" quantize "$model" --data data.yaml -o no/such/folder/gone.onnx
  echo "nonsense: 1" >wrong.yaml
  refuses "quantize: a data file with a wrong key" "nonsense" quantize "$model" --data wrong.yaml -o gone.onnx
  refuses "quantize: unknown strategy" "ptq, qat or auto" quantize "$model" --data data.yaml -o gone.onnx --strategy best
  refuses "quantize: a policy that decides nothing" "--strategy auto" quantize "$model" --data data.yaml -o gone.onnx --policy wrong.yaml
  refuses "quantize: output is the model" "replace" quantize "$model" --data data.yaml -o "$model"
  refuses "quantize: output is the model's data" "replace" quantize parts/model.onnx --data data.yaml -o parts/weights.bin
  refuses "quantize: calibration is the model's data" "replace" quantize parts/model.onnx --data data.yaml -o gone.onnx --save-calibration link.bin
  refuses "ship: report is the model's data" "replace" ship parts/model.onnx --data data.yaml --report link.bin
  refuses "data preview: page is the model's data" "replace" data preview parts/model.onnx data.yaml -o link.bin
  refuses "verify: report is the candidate's data" "replace" verify "$model" parts/model.onnx --data data.yaml --report link.bin
  echo "quantization: {weight_bits: 5}" >bits.yaml
  refuses "quantize: a policy with bits that are not to be had" "bits.yaml:1" quantize "$model" --data data.yaml -o gone.onnx --strategy auto --policy bits.yaml
  echo "quantization: {max_accuracy_drop_points: 99}" >lax.yaml
  works "quantize --strategy auto" quantize "$model" --data data.yaml -o auto.onnx --samples 32 --strategy auto --policy lax.yaml --test-samples 500
  says "the rule says why" "PTQ first: no bits below 8"
  says "and what came of it" "less than the 99 allowed: it is kept"
  "$slipway" inspect auto.onnx >out 2>err && says "what it wrote is quantised" "QuantizeLinear"

  refuses "qat: unknown bits" "w8a8" qat "$model" --data data.yaml -o gone.onnx --bits w3a8
  refuses "qat: no epochs" "--epochs" qat "$model" --data data.yaml -o gone.onnx --epochs 0
  refuses "qat: unknown loss" "distillation" qat "$model" --data data.yaml -o gone.onnx --loss magic
  refuses "qat: unknown optimiser" "adamw" qat "$model" --data data.yaml -o gone.onnx --optimizer adam
  refuses "qat: a share above 1" "from 0 to 1" qat "$model" --data data.yaml -o gone.onnx --distillation-weight 1.5
  refuses "qat: momentum of adamw" "AdamW has no" qat "$model" --data data.yaml -o gone.onnx --optimizer adamw --momentum 0.5
  refuses "qat: a weight of what is left out" "nothing is distilled" qat "$model" --data data.yaml -o gone.onnx --loss labels --temperature 4
  refuses "qat: flipped and not" "--no-flip" qat "$model" --data data.yaml -o gone.onnx --flip --no-flip
  refuses "qat: output is the model" "replace" qat "$model" --data data.yaml -o "$model"
  refuses "qat: output is the model's data" "replace" qat parts/model.onnx --data data.yaml -o link.bin
  refuses "qat: checkpoint is the model's data" "replace" qat parts/model.onnx --data data.yaml -o gone.onnx --checkpoint parts/weights.bin
  refuses "qat: absent model" "no such file" qat absent.onnx --data data.yaml -o gone.onnx
  refuses "qat: absent data" "no such file" qat "$model" --data absent.yaml -o gone.onnx
  refuses "qat: unwritable output" "written" qat "$model" --data data.yaml -o no/such/folder/gone.onnx
  refuses "qat: unwritable report" "written" qat "$model" --data data.yaml -o gone.onnx --report no/such/folder/gone.html
  refuses "qat: quantised already" "quantised already" qat model.int8.onnx --data data.yaml -o gone.onnx
  export SLIPWAY_TORCH=/nonexistent
  refuses "qat: a build that can't train" "slipway-torch is missing" qat "$model" --data data.yaml -o gone.onnx
  echo "quantization: {accuracy_critical: true}" >critical.yaml
  refuses "quantize: QAT is due in a build that can't train" "--strategy ptq" quantize "$model" --data data.yaml -o gone.onnx --strategy auto --policy critical.yaml
  echo "quantization: {max_accuracy_drop_points: 0}" >strict.yaml
  "$slipway" quantize "$model" --data "$trained_with" -o kept.onnx --samples 8 --method percentile --percentile 70 --strategy auto --policy strict.yaml --test-samples 500 >out 2>err
  if [ $? -eq 1 ] && [ -e kept.onnx ]; then pass "PTQ that falls short is kept, with status 1"; else miss "PTQ that falls short is kept, with status 1" ""; fi
  says "and QAT would be next" "QAT would be next"
  unset SLIPWAY_TORCH
  works "data preview" data preview "$model" "$trained_with" --samples 200 --count 4 -o preview.html --json
  json "and nothing to warn of" "j['warnings'] == [] and j['accuracy'] > 0.8"
  echo "label_map: {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9, 9: 0}" | cat "$trained_with" - >shifted.yaml
  works "bench on a sample" bench "$model" --data data.yaml --seconds 0.2 --no-tune --json
  json "bench on a sample" "28 in j['dims'].values() and j['one_plan']"
  refuses "bench: a sample and sizes" "excludes" bench "$model" --data data.yaml --dim N=2
  works "data preview of wrong labels" data preview "$model" shifted.yaml --samples 200 --count 4 -o preview.html --json
  json "and its warning" "'near chance' in j['warnings'][-1]"
  judged "verify: few samples are inconclusive, and that is exit 1" inconclusive verify "$model" "$model" --data "$trained_with" --quick --samples 40 --edge-case-samples 10 --no-tune
  json "and --samples wins over --quick" "j['data']['judged_samples'] == 40 and j['accuracy']['edge_cases'][0]['samples'] == 10"
  judged "verify: a model that guesses is refused, though the candidate equals it" fail verify "$model" "$model" --data shifted.yaml --quick --samples 200 --edge-case-samples 10 --no-tune
  json "and the warnings are repeated" "any('near chance' in w for w in j['data']['warnings']) and any(c['id'] == 'accuracy.chance' and c['verdict'] == 'fail' for c in j['checks'])"
  "$slipway" ship "$model" --data shifted.yaml --skip-quantize --quick --samples 200 --edge-case-samples 10 --seconds 1 --no-tune --work road --report road.html --report-json road.json --json >out 2>err
  if [ $? -eq 1 ]; then pass "ship stops at such a model"; else miss "ship stops at such a model" ""; fi
  json "and repeats the warnings" "j['stage'] == 'verify' and any('near chance' in w for w in j['warnings'])"
  if [ -s road.html ] && [ -s road.json ]; then pass "its reports are written where asked"; else miss "its reports are written where asked" ""; fi
  interrupted "Ctrl-C in quantize" 0.4 quantize "$model" --data data.yaml -o gone.onnx --samples 40000
else
  echo "SKIP quantize: $data_set is not installed"
fi
interrupted "Ctrl-C in bench" 1 bench "$model" --seconds 30 --no-tune

mkdir folder
echo "this is no model" >text.onnx
"$python" -c "
import zipfile
with zipfile.ZipFile('model.pt', 'w') as z:
    z.writestr('archive/data.pkl', b'\x80\x02.')
    z.writestr('archive/version', '3')"
head -c 5000 "$model" >truncated.onnx
: >empty.onnx
for verb in inspect "optimize -o gone.onnx" "build -o gone.plan" "run --input $input=x.npy" bench; do
  name=${verb%% *}
  # shellcheck disable=SC2086
  {
    refuses "$name: missing file" "no such file" $verb absent.onnx
    refuses "$name: folder" "file" $verb folder
    refuses "$name: text file" "onnx" $verb text.onnx
    refuses "$name: PyTorch archive" "torch.onnx.export" $verb model.pt
    refuses "$name: truncated file" "onnx" $verb truncated.onnx
    refuses "$name: empty file" "onnx" $verb empty.onnx
  }
done
refuses "optimize: unwritable output" "written" optimize "$model" -o no/such/folder/gone.onnx
refuses "build: unwritable output" "written" build "$model" -o no/such/folder/gone.plan
refuses "build: output is a folder" "folder" build "$model" -o folder --no-tune
refuses "build: another target" "trtexec" build "$model" -o gone.plan --target cuda
refuses "build: a fixed size that is none" "NAME=SIZE" build "$model" -o gone.plan --dim batch=x
refuses "build: batch 0" "batch" build "$model" -o gone.plan --batch 0
refuses "build: no threads" "threads" build "$model" -o gone.plan --threads 0
mkdir empty
refuses "conform: no case" "There is no case here" conform empty
refuses "conform: another way" "--way" conform $cases/test_relu --way guess
refuses "run: unknown input" "$input" run "$model" --input nothing=x.npy
refuses "run: missing input" "--input" run "$model"
refuses "run: wrong shape" "$input" run "$model" --input "$input=wrong.npy"
refuses "run: wrong shape for a plan" "$input" run model.plan --input "$input=wrong.npy"
refuses "run: wrong type" "$input" run "$model" --input "$input=bytes.npy"
refuses "run: input that is no npy" "npy" run "$model" --input "$input=text.onnx"
refuses "run: unknown engine" "engine" run "$model" --input "$input=x.npy" --engine magic
head -c 20000 model.plan >half.plan
refuses "run: half a plan" "build it again" run half.plan --input "$input=x.npy"
refuses "bench: no seconds" "positive" bench "$model" --seconds 0
refuses "inspect: a dimension that is none" "free are" inspect "$model" --dim foo=3
refuses "inspect: no rows" "at least one" inspect "$model" --batch 0
refuses "load: a soak that nothing judges" "--admin" load http://127.0.0.1:1 --soak 3s
refuses "export: no samples" "not in range" data export data.yaml -o x.npy --count 0
refuses "inspect: unknown node" "--steps" inspect "$model" --why nothing
refuses "unknown option" "--magic" inspect "$model" --magic
refuses "mistyped option" "did you mean --batch" inspect "$model" --bacth 2
refuses "mistyped option of an inner verb" "did you mean --steps" rollout start m 1 --setps x
refuses "unknown verb" "There are: inspect" conjure "$model"
refuses "mistyped verb" "did you mean quantize" quantise "$model"
refuses "mistyped inner verb" "did you mean start" rollout strat m 1
refuses "one word too many" "takes no 'more'" inspect "$model" more
refuses "no verb" "" 
if ls -A | grep -q '\.tmp\.'; then miss "no temporary files" "$(ls -A | grep '\.tmp\.')"; else pass "no temporary files"; fi

echo "$failures failed"
[ "$failures" -eq 0 ]
