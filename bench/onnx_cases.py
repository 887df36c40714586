#!/usr/bin/env python3
"""ONNX's own operator cases through every way that Slipway runs a model, as a page: onnx_cases.py SLIPWAY PAGE

The installed package onnx writes its cases into a temporary folder; `slipway conform` runs them. The page says what
passed, and every case that did not with its reason. Needs onnx and numpy."""
import collections
import json
import os
import subprocess
import sys
import tempfile

import onnx


def page(result):
    lines = [
        "# Conformance",
        "",
        f"The {result['cases']} operator cases of the package onnx {onnx.__version__}, each in a process of its own, by the",
        "reference, by the compiled engine, and from a plan that was saved and opened. Floats agree within 1e-3 of the value",
        "plus 1e-7, all else exactly. Written by `./dev conformance`.",
        "",
        "| way | passed | wrong | unsupported |",
        "|---|---|---|---|",
    ]
    for way, t in result["ways"].items():
        lines.append(f"| {way} | {t['passed']} | {t['wrong']} | {t['unsupported']} |")
    lines += ["", "## What does not pass", ""]
    by_case = collections.OrderedDict()
    for failure in result["failures"]:
        case = by_case.setdefault((failure["case"], failure["reason"]), [])
        case.append(failure["way"])
    for (case, reason), ways in by_case.items():
        lines.append(f"- `{case}` ({', '.join(ways)}): {reason}")
    lines += ["", "## Operators", ""]
    names = list(result["ways"])
    lines += ["| operator | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for operator, ways in sorted(result["operators"].items()):
        cells = []
        for way in names:
            t = ways[way]
            cells.append(f"{t['passed']} of {t['passed'] + t['wrong'] + t['unsupported']}")
        lines.append(f"| {operator} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    slipway, target = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        cases = os.path.join(folder, "node")
        os.makedirs(cases)  # the tool looks into it
        write = [sys.executable, "-m", "onnx.backend.test.cmd_tools", "generate-data", "-o", folder]
        subprocess.run(write, check=True, stderr=subprocess.DEVNULL)
        run = subprocess.run([slipway, "conform", cases, "--json"], stdout=subprocess.PIPE, text=True)
        if run.returncode not in (0, 1):
            sys.exit(run.returncode)
        result = json.loads(run.stdout.splitlines()[-1])
    with open(target + ".tmp", "w") as file:
        file.write(page(result))
    os.replace(target + ".tmp", target)
    print(f"{target}: " + ", ".join(f"{way} {t['passed']}" for way, t in result["ways"].items()))


if __name__ == "__main__":
    main()
