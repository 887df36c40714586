#!/usr/bin/env python3
"""Whether real models agree with ONNX Runtime, and how fast they are beside it: real_models.py PROGRAM FOLDER PAGE.md

Every ONNX file below FOLDER is run on made-up inputs by both, at sizes that ONNX Runtime takes: free axes have the first
of some usual sizes that it can run. Off: the largest difference over the largest value of an output, or 0.01 where all are
smaller: there ONNX Runtime's sigmoid is not exact. Time: one thread; the median over rounds, in turn, of the fastest run
of each. Needs onnxruntime, numpy."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort

ROUNDS, SECONDS = 3, 0.6
FREE_SIZES = {2: (128, 576), 3: (576, 128, 64), 4: (224, 320, 64), 5: (16,)}  # by rank
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64, "int64": np.int64, "int32": np.int32,
         "uint8": np.uint8, "int8": np.int8, "bool": np.bool_}


def made_up(port, free, rng):
    shape = [d if isinstance(d, int) else 1 if axis == 0 or (axis == 1 and port.shape[0] == 2) else free
             for axis, d in enumerate(port.shape)]
    dtype = TYPES[port.type[len("tensor("):-1]]
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape, dtype=np.float32).astype(dtype)
    if dtype == np.bool_ or "mask" in port.name:
        return np.ones(shape, dtype)
    return rng.integers(1, 100, shape).astype(dtype) if shape else np.array(16000, dtype)


def usable_inputs(session):
    """Inputs that ONNX Runtime can run, and its outputs."""
    ports, error = session.get_inputs(), None
    for free in FREE_SIZES.get(max(len(p.shape) for p in ports), (8,)):
        rng = np.random.default_rng(0)
        inputs = {port.name: made_up(port, free, rng) for port in ports}
        try:
            return inputs, session.run(None, inputs)
        except Exception as failure:  # every kind of its errors
            error = failure
    raise error


def fastest_ms(session, inputs):
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, inputs)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}


def compare(program, path, folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, expected = usable_inputs(session)
    given = []
    for i, (name, array) in enumerate(inputs.items()):
        file = os.path.join(folder, f"input{i}.npy")
        np.save(file, array)
        given += ["--input", f"{name}={file}"]
    last_json([program, "run", path, *given, "--output-dir", folder, "--json"])
    off = 0.0
    for i, want in enumerate(expected):
        got = np.load(os.path.join(folder, f"{i}.npy"))
        if got.shape != want.shape:
            raise RuntimeError(f"output {i} is {got.shape} instead of {want.shape}")
        if not np.array_equal(np.isnan(got), np.isnan(want)):
            raise RuntimeError(f"output {i} has NaN elsewhere")
        if want.size and not np.isnan(want).all():
            worst = np.nanmax(np.abs(got.astype(np.float64) - want.astype(np.float64)))
            off = max(off, worst / max(np.nanmax(np.abs(want.astype(np.float64))), 1e-2))
    plan = os.path.join(folder, "model.plan")
    shapes = [f"{name}={'x'.join(map(str, array.shape))}" for name, array in inputs.items() if array.ndim]
    shown = ", ".join("×".join(map(str, array.shape)) for array in inputs.values() if array.ndim)
    theirs, ours = [], []
    try:
        last_json([program, "build", path, "--shapes", *shapes, "-o", plan, "--json"])
        for _ in range(ROUNDS):
            theirs.append(fastest_ms(session, inputs))
            ours.append(last_json([program, "bench", plan, "--seconds", str(SECONDS), "--rounds", "1",
                                   "--json"])["latency_ms_min"])
    except RuntimeError as failure:
        return [shown, f"{off:.1e}", f"{fastest_ms(session, inputs):.2f}", f"not timed: {str(failure)[:60]}", ""]
    return [shown, f"{off:.1e}", f"{statistics.median(theirs):.2f}", f"{statistics.median(ours):.2f}",
            f"{statistics.median(theirs) / statistics.median(ours):.2f}"]


def processor():
    with open("/proc/cpuinfo") as file:
        fields = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    features = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if f in fields.get("flags", "").split()]
    return f"{fields.get('model name', 'unknown')} ({', '.join(features)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder", help="with ONNX files, at any depth")
    parser.add_argument("page", help="Markdown to write")
    arguments = parser.parse_args()
    files = sorted((os.path.join(root, name) for root, _, names in os.walk(arguments.folder) for name in names
                    if name.endswith(".onnx")), key=os.path.basename)
    rows, agree = [], 0
    for number, path in enumerate(files, 1):
        print(f"[{number}/{len(files)}] {path}", file=sys.stderr)
        name = os.path.basename(path)[:-len(".onnx")]
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows.append([name, *compare(arguments.program, path, folder)])
                agree += float(rows[-1][2]) <= 1e-3
            except Exception as failure:
                rows.append([name, str(failure).splitlines()[0][:90], "", "", "", ""])
    ratios = [float(row[-1]) for row in rows if row[-1]]
    mean = statistics.geometric_mean(ratios) if ratios else float("nan")
    with open(arguments.page + ".part", "w") as page:
        page.write(f"""# Real models beside ONNX Runtime

As `./dev models PYTHON FOLDER` measured them on {processor()}, one thread, against ONNX Runtime {ort.__version__}:
{agree} of {len(rows)} agree within 1e-3 of an output's largest value (or of 0.01, where all are smaller). INT8 files
may differ by a step of theirs, for each engine rounds sums between two codes its own way. Geometric mean of its time over ours {mean:.2f}.

| model | inputs | off | ONNX Runtime, ms | Slipway, ms | ratio |
|---|---|---|---|---|---|
""")
        page.writelines("| " + " | ".join(row) + " |\n" for row in rows)
    os.replace(arguments.page + ".part", arguments.page)


if __name__ == "__main__":
    main()
