#!/usr/bin/env python3
"""Whether ONNX Runtime loads what Slipway wrote and agrees on it: conformance.py FOLDER

FOLDER holds cases as `differential --export FOLDER` writes them: NAME/model.onnx, what `optimize` and `quantize` made of
it, and test_data_set_0. A model that ONNX Runtime itself refuses, or whose written results it does not reproduce, says
nothing about the others; what it refuses or computes otherwise of them alone is printed. Needs onnxruntime, onnx, numpy."""
import argparse
import collections
import glob
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper


def read(path):
    with open(path, "rb") as file:
        return numpy_helper.to_array(onnx.TensorProto.FromString(file.read()))


def tensors(folder, kind):
    count = len(glob.glob(os.path.join(folder, f"{kind}_*.pb")))
    return [read(os.path.join(folder, f"{kind}_{i}.pb")) for i in range(count)]


def run(path, inputs, optimised=False):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = (ort.GraphOptimizationLevel.ORT_ENABLE_ALL if optimised
                                        else ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs)})


def difference(got, want, steps):
    """Empty when equal up to rounding; `steps` more where results were quantised."""
    for i, (a, b) in enumerate(zip(got, want)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {i} is {a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
        if a.size == 0:
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(y)
        scale = np.abs(y[finite]).max() if finite.any() else 0
        rounding = {"float16": 5e-3, "float64": 1e-9}.get(str(b.dtype), 2e-4) if b.dtype.kind == "f" else 0
        bound = rounding * (np.abs(y) + 0.1 * scale) + steps * (scale / 50 if b.dtype.kind == "f" else 1)
        with np.errstate(invalid="ignore"):
            good = (x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= bound)
        if not good.all():
            at = int(np.flatnonzero(~good.ravel())[0])
            return f"output {i} element {at} is {x.ravel()[at]!r} instead of {y.ravel()[at]!r}"
    return ""


def judge(path, inputs, want, steps=0):
    try:
        got = run(path, inputs)
    except Exception as error:  # pylint: disable=broad-except
        return "refused: " + str(error).split("\n")[0][:200]
    off = difference(got, want, steps)
    return "differs: " + off if off else ""


def checked(path):
    try:
        onnx.checker.check_model(path, full_check=True)
        return ""
    except Exception as error:  # pylint: disable=broad-except
        return "checker: " + str(error).strip().split("\n")[0][:200]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--originals", action="store_true", help="print what ONNX Runtime says of the originals, too")
    a = parser.parse_args()
    counts, faults = collections.Counter(), 0
    for name in sorted(os.listdir(a.folder), key=lambda n: (len(n), n)):
        folder = os.path.join(a.folder, name)
        if not os.path.exists(os.path.join(folder, "model.onnx")):
            continue
        data = os.path.join(folder, "test_data_set_0")
        inputs, want = tensors(data, "input"), tensors(data, "output")
        original = os.path.join(folder, "model.onnx")
        verdict = judge(original, inputs, want)
        counts["original " + (verdict.split(":")[0] or "agrees")] += 1
        if verdict:
            if a.originals:
                print(f"{name}: original {verdict}")
            continue
        strict = not checked(original)
        for file in ("optimized.onnx", "quantized.onnx"):
            path = os.path.join(folder, file)
            if not os.path.exists(path):
                continue
            verdict = judge(path, inputs, tensors(data, "quantized") if file.startswith("quantized") else want,
                            steps=1 if file.startswith("quantized") else 0)
            verdict = verdict or (checked(path) if strict else "")
            counts[f"{file} " + (verdict.split(":")[0] or "agrees")] += 1
            if verdict:
                faults += 1
                print(f"{name}: {file} {verdict}")
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
