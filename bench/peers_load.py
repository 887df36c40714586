#!/usr/bin/env python3
"""Whether ONNX Runtime loads the files that Slipway wrote and computes what is right: peers_load.py FOLDER…

Each FOLDER, or each folder inside it, is a case: *.onnx files (model.onnx, optimized.onnx, quantized.onnx, …) and inputs
as test_data_set_0/input_N.pb, or as x.npy for the first input. With `--program PROGRAM` the files are written first:
`optimize` of each model.onnx, and `quantize` where data.yaml lies beside it, unless they are there. ONNX Runtime runs
each file with its own optimisations off. Held against test_data_set_0/output_N.pb where there are some, else against
ONNX Runtime on model.onnx; quantised files (qdq or int8 or quantized in the name) against Slipway's reference, when
there is a PROGRAM: |difference| ≤ atol + rtol · largest, NaN equal to NaN. A file whose model.onnx ONNX Runtime refuses too is counted apart.
Exit status 1 when a file is not loaded or differs. Needs onnxruntime, onnx and numpy: `./dev bench --peers PYTHON`."""
import argparse
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper


def run(path, inputs):
    options = ort.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {port.name: x for port, x in zip(session.get_inputs(), inputs)})


def tensors(case, kind):
    paths = [os.path.join(case, "test_data_set_0", f"{kind}_{i}.pb") for i in range(1000)]
    return [numpy_helper.to_array(onnx.TensorProto.FromString(open(p, "rb").read())) for p in paths if os.path.exists(p)]


def difference(actual, expected, rtol, atol):
    for i, (a, e) in enumerate(zip(actual, expected)):
        a, e = np.asarray(a), np.asarray(e)
        if a.dtype != e.dtype or a.shape != e.shape:
            return f"output {i} is {a.dtype}{list(a.shape)} instead of {e.dtype}{list(e.shape)}"
        if a.dtype.kind not in "fc":
            off = np.abs(a.astype(np.int64) - e.astype(np.int64)).max(initial=0) if a.dtype.kind in "iu" else 0 if (a == e).all() else 1
            if off > (1 if a.dtype.itemsize == 1 and a.dtype.kind in "iu" else 0):  # a code may round to its neighbour
                return f"output {i} differs by {off}"
            continue
        with np.errstate(invalid="ignore"):
            same = (a == e) | (np.isnan(a) & np.isnan(e))
            largest = np.abs(e[np.isfinite(e)]).max(initial=0)
            if not (same | (np.abs(a - e) <= atol + rtol * largest)).all():
                return f"output {i} differs by {np.nanmax(np.abs(a - e)[~same]):.3g} of {largest:.3g}"
    return ""


def reference(program, path, inputs, folder):
    """Slipway's reference on the file."""
    names = [p.name for p in onnx.load(path, load_external_data=False).graph.input]
    arguments = []
    for i, (name, x) in enumerate(zip(names, inputs)):
        np.save(os.path.join(folder, f"in{i}.npy"), x)
        arguments += ["--input", f"{name}={folder}/in{i}.npy"]
    subprocess.run([program, "run", path, *arguments, "--engine", "reference", "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
    return [np.load(os.path.join(folder, f"{i}.npy")) for i in range(len(glob.glob(os.path.join(folder, "[0-9]*.npy"))))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--program", help="Slipway: writes optimized.onnx and quantized.onnx first, into a copy")
    parser.add_argument("--rtol", type=float, default=1e-4)
    parser.add_argument("--atol", type=float, default=1e-6)
    a = parser.parse_args()
    counts = {"agree": 0, "DIFFER": 0, "NOT LOADED": 0, "original not loaded": 0, "not written": 0}
    cases = [c for f in a.folders for c in ([f] if glob.glob(os.path.join(f, "*.onnx")) else sorted(glob.glob(os.path.join(f, "*/"))))]
    with tempfile.TemporaryDirectory() as work:
        for case in cases:
            original = os.path.join(case, "model.onnx")
            if not os.path.exists(original):
                continue
            files = sorted(set(glob.glob(os.path.join(case, "*.onnx"))) - {original})
            if a.program:
                commands = {"optimized": ["optimize", original]}
                if os.path.exists(os.path.join(case, "data.yaml")):
                    commands["quantized"] = ["quantize", original, "--data", os.path.join(case, "data.yaml")]
                for name, command in commands.items():
                    if os.path.exists(os.path.join(case, name + ".onnx")):
                        continue
                    path = os.path.join(work, name + ".onnx")
                    if os.path.exists(path):
                        os.remove(path)
                    subprocess.run([a.program, *command, "-o", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    if os.path.exists(path):
                        files.append(path)
                    else:
                        counts["not written"] += 1
            inputs = tensors(case, "input")
            if not inputs and os.path.exists(os.path.join(case, "x.npy")):
                inputs = [np.load(os.path.join(case, "x.npy"))]
            for path in files:
                quantised = any(word in os.path.basename(path) for word in ("qdq", "int8", "quantized"))
                try:
                    actual, why, verdict = run(path, inputs), "", "agree"
                except Exception as error:  # whatever ONNX Runtime's bindings raise
                    why, verdict = str(error).splitlines()[0][:200], "NOT LOADED"
                    try:
                        run(original, inputs)
                    except Exception:
                        verdict = "original not loaded"
                if verdict == "agree":
                    if quantised:
                        if not a.program:
                            continue
                        with tempfile.TemporaryDirectory() as outputs:
                            expected = reference(a.program, path, inputs, outputs)
                    else:
                        expected = tensors(case, "output") or run(original, inputs)
                    why = difference(actual, expected, a.rtol, a.atol)
                    verdict = "DIFFER" if why else "agree"
                counts[verdict] += 1
                if why:
                    print(f"{verdict}: {case.rstrip('/')} {os.path.basename(path)}: {why}")
    print(", ".join(f"{n} {what}" for what, n in counts.items() if n))
    return 1 if counts["DIFFER"] or counts["NOT LOADED"] else 0


if __name__ == "__main__":
    sys.exit(main())
