#!/usr/bin/env python3
"""Times ONNX Runtime and Slipway in the same rounds: peers.py PROGRAM FP32.onnx INT8.onnx --threads T --batch B

Each engine runs in a process of its own; rounds alternate, so that a noisy neighbour hits both. Printed: the median over
rounds of each round's median, the time from opening to the first result, and the peak memory above the process's start
(ONNX Runtime: above its Python imports). Needs onnxruntime and numpy."""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def worker(path, threads, batch):
    import numpy as np
    import onnxruntime as ort
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    idle, start = peak(), time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else batch if i == 0 else 1 for i, d in enumerate(port.shape)]
    inputs = {port.name: np.random.default_rng(0).random(shape, dtype=np.float32)}
    session.run(None, inputs)
    print(json.dumps({"first_result_ms": (time.perf_counter() - start) * 1e3}), flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while time.perf_counter() < end or len(times) < 3:
            t = time.perf_counter()
            session.run(None, inputs)
            times.append((time.perf_counter() - t) * 1e3)
        print(json.dumps({"median": statistics.median(times), "memory": peak() - idle}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        return worker(a.models[0], a.threads, a.batch)
    with tempfile.TemporaryDirectory() as folder:
        peers, plans, rows = {}, {}, {}
        for model in a.models:
            plans[model] = os.path.join(folder, f"{len(plans)}.plan")
            subprocess.run([a.program, "build", model, "-o", plans[model], "--threads", str(a.threads), "--batch", str(a.batch), "--json"],
                           check=True, stdout=subprocess.DEVNULL)
            command = [sys.executable, __file__, a.program, model, "--worker", "--threads", str(a.threads), "--batch", str(a.batch)]
            peers[model] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            rows["onnxruntime", model] = {"ms": [], **json.loads(peers[model].stdout.readline())}
            rows["slipway", model] = {"ms": []}
        for _ in range(a.rounds):
            for model in a.models:
                peers[model].stdin.write(f"{a.seconds}\n")
                answer = json.loads(peers[model].stdout.readline())
                rows["onnxruntime", model]["ms"].append(answer["median"])
                rows["onnxruntime", model]["memory"] = answer["memory"]
                ours = subprocess.run([a.program, "bench", plans[model], "--batch", str(a.batch), "--threads", str(a.threads), "--seconds",
                                       str(a.seconds), "--rounds", "1", "--json"], check=True, capture_output=True, text=True)
                figures = json.loads(ours.stdout.strip().splitlines()[-1])
                row = rows["slipway", model]
                row["ms"].append(figures["latency_ms_median"])
                row["memory"], row["first_result_ms"] = figures["peak_rss_over_start_bytes"], figures["first_result_ms"]
        for process in peers.values():
            process.stdin.close()
            process.wait()
    print(f"threads {a.threads}, batch {a.batch}")
    print(f"  {'model':32} {'engine':12} {'median ms':>10} {'first ms':>10} {'memory MB':>10} {'time / ONNX Runtime':>20}")
    for model in a.models:
        for engine in ("onnxruntime", "slipway"):
            row = rows[engine, model]
            ratio = statistics.median(o / p for o, p in zip(row["ms"], rows["onnxruntime", model]["ms"]))
            print(f"  {os.path.basename(model):32} {engine:12} {statistics.median(row['ms']):10.3f} {row['first_result_ms']:10.1f} "
                  f"{row['memory'] / 1e6:10.1f} {ratio:20.2f}")
    first, last = a.models[0], a.models[-1]
    gain = statistics.median(f / i for f, i in zip(rows["slipway", first]["ms"], rows["slipway", last]["ms"]))
    print(f"  slipway, INT8 over FP32: {gain:.2f}x")


if __name__ == "__main__":
    main()
