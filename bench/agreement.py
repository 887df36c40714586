#!/usr/bin/env python3
"""On how many test images ONNX Runtime and Slipway name the same class: agreement.py PROGRAM MODEL.onnx… --data D.yaml

The inputs come from Slipway's own reading of the data (`slipway data export`). ONNX Runtime runs with its optimisations
on and off: how far it agrees with itself is the measure of what can be asked. Needs onnxruntime and numpy."""
import argparse
import os
import subprocess
import tempfile

import numpy as np
import onnxruntime as ort


def classes(path, level, x):
    options = ort.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, level
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i:i + 100]})[0].argmax(-1).ravel() for i in range(0, len(x), 100)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = os.path.join(folder, "x.npy")
        subprocess.run([a.program, "data", "export", a.data, "-o", samples], check=True, stdout=subprocess.DEVNULL)
        x = np.load(samples)
        for model in a.models:
            name = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
            subprocess.run([a.program, "run", model, "--input", f"{name}={samples}", "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
            ours = np.load(os.path.join(folder, "0.npy")).argmax(-1).ravel()
            on = classes(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, x)
            off = classes(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, x)
            share = lambda p, q: 100 * (p == q).mean()
            print(f"{os.path.basename(model)}: same class as ONNX Runtime on {share(ours, on):.2f} % (optimised) and {share(ours, off):.2f} % "
                  f"(not optimised) of {len(x)} images; ONNX Runtime with itself {share(on, off):.2f} %")


if __name__ == "__main__":
    main()
