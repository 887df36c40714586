"""Load on Slipway's POST /predict with Locust (https://locust.io): pictures, as a camera or a web page posts them.

    slipway serve models-repository/ &
    locust -f examples/locustfile.py --host http://127.0.0.1:8000
    locust -f examples/locustfile.py --host http://127.0.0.1:8000 --headless --users 8 --run-time 30s

Set SLIPWAY_IMAGES to a folder of JPEG or PNG files; without it, test pictures of Fashion-MNIST are sent (Debian's
package dataset-fashion-mnist). SLIPWAY_MODEL chooses the model where several are loaded. Needs Locust alone.
"""

import base64
import gzip
import json
import os
import random
import struct
import zlib

from locust import FastHttpUser, between, constant, events, task

FASHION_MNIST = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
SUFFIXES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def png(width, height, grey):
    """A grey picture's PNG file."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + grey[y * width : (y + 1) * width] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pictures_of_folder(folder, most=500):
    """(bytes, content type) of the pictures in a folder."""
    found = []
    for name in sorted(os.listdir(folder)):
        kind = SUFFIXES.get(os.path.splitext(name)[1].lower())
        if kind and len(found) < most:
            with open(os.path.join(folder, name), "rb") as file:
                found.append((file.read(), kind))
    if not found:
        raise SystemExit(f"There are no JPEG or PNG files in {folder}; set SLIPWAY_IMAGES to a folder of pictures.")
    return found


def pictures_of_idx(path, most=500):
    """The first pictures of a gzipped IDX file, as PNG."""
    with gzip.open(path) as file:
        magic, count, height, width = struct.unpack(">IIII", file.read(16))
        if magic != 0x803:
            raise SystemExit(f"{path} holds no pictures.")
        return [(png(width, height, file.read(width * height)), "image/png") for _ in range(min(count, most))]


PICTURES = []


@events.init.add_listener
def load_pictures(**_):
    folder = os.environ.get("SLIPWAY_IMAGES")
    if not folder and not os.path.exists(FASHION_MNIST):
        raise SystemExit("Set SLIPWAY_IMAGES to a folder of pictures, or install dataset-fashion-mnist.")
    PICTURES.extend(pictures_of_folder(folder) if folder else pictures_of_idx(FASHION_MNIST))


def fault_of(answer):
    """What is wrong with an answer of /predict; nothing when all is well."""
    for field in ("model", "version", "label", "confidence", "top"):
        if field not in answer:
            return f"no '{field}'"
    if not 0 <= answer["confidence"] <= 1:
        return f"a confidence of {answer['confidence']}"
    top = [entry["confidence"] for entry in answer["top"]]
    if not 1 <= len(top) <= 5 or top != sorted(top, reverse=True):
        return "the top classes are not ranked"
    if answer["top"][0]["label"] != answer["label"]:
        return "the label is not that of the first class"
    return None


class PictureUser(FastHttpUser):
    """Posts pictures one after the other, now and then as JSON with base64, as web pages do."""

    wait_time = constant(0) if os.environ.get("SLIPWAY_NO_WAIT") else between(0.01, 0.1)
    path = "/predict" + (f"?model={os.environ['SLIPWAY_MODEL']}" if "SLIPWAY_MODEL" in os.environ else "")

    @task(4)
    def post_file(self):
        data, kind = random.choice(PICTURES)
        self.check("/predict (file)", data, {"Content-Type": kind})

    @task(1)
    def post_json(self):
        data, _ = random.choice(PICTURES)
        body = json.dumps({"image": base64.b64encode(data).decode()})
        self.check("/predict (JSON)", body, {"Content-Type": "application/json"})

    def check(self, name, body, headers):
        with self.client.post(self.path, data=body, headers=headers, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {(response.text or '')[:200]}")
                return
            fault = fault_of(response.json())
            if fault:
                response.failure(fault)
            else:
                response.success()
