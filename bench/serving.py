#!/usr/bin/env python3
"""Times `slipway serve` beside other model servers: the same requests, cells of all servers shuffled within each round.

  bench/serving.py build/release/slipway MODEL.onnx --peer "triton=COMMAND" --peer "fastapi=COMMAND"

A peer's COMMAND starts it in the foreground; {http}, {grpc} and {metrics} become free ports, and it must serve the model
under the file's name. Planes (--planes): http (binary tensors), json, grpc, predict (a PNG in base64). Needs wrk, h2load
and Python packages numpy, onnx; for grpc also the classes of tritonclient. Latency is p50 at one connection, over the
bare Session in the same round; throughput is requests a second at --connections.
"""
import argparse, base64, io, json, os, random, re, shlex, signal, socket, statistics, struct, subprocess, sys, tempfile, time, urllib.request, zlib
import numpy as np
import onnx

LUA = """
function init(a) local f = io.open(a[1], "rb"); wrk.body = f:read("*a"); f:close(); wrk.method = "POST"
  wrk.headers["Content-Type"] = a[2]; if a[3] then wrk.headers["Inference-Header-Content-Length"] = a[3] end end
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def png(height, width, channels, seed=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


class Bodies:
    """The requests of each plane as files."""

    def __init__(self, model, folder):
        graph = onnx.load(model).graph
        port = graph.input[0]
        dims = [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]
        x = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
        self.name = os.path.basename(model).removesuffix(".onnx")
        tensor = dict(name=port.name, shape=dims, datatype="FP32")
        outputs = [dict(name=o.name, parameters=dict(binary_data=True)) for o in graph.output]
        head = json.dumps(dict(inputs=[dict(tensor, parameters=dict(binary_data_size=x.nbytes))], outputs=outputs)).encode()
        self.header_bytes = len(head)
        self.path = lambda plane: os.path.join(folder, plane)
        self.write("http", head + x.tobytes())
        self.write("json", json.dumps(dict(inputs=[dict(tensor, data=[float(v) for v in x.ravel()])])).encode())
        channels, height, width = (dims + [1, 1, 1])[1:4]
        if channels in (1, 3):
            self.write("predict", json.dumps(dict(image=base64.b64encode(png(height, width, channels)).decode())).encode())
        try:
            from tritonclient.grpc import service_pb2 as pb
            request = pb.ModelInferRequest(model_name=self.name, raw_input_contents=[x.tobytes()])
            request.inputs.add(name=port.name, datatype="FP32", shape=dims)
            message = request.SerializeToString()
            self.write("grpc", b"\0" + struct.pack(">I", len(message)) + message)
        except ImportError:
            pass

    def write(self, plane, data):
        with open(self.path(plane), "wb") as f:
            f.write(data)


class Server:
    def __init__(self, name, command, bodies, log):
        self.name, self.bodies, self.ports = name, bodies, {k: free_port() for k in ("http", "grpc", "metrics")}
        self.process = subprocess.Popen(shlex.split(command.format(**self.ports)), stdout=log, stderr=log, start_new_session=True)

    def wait(self, seconds=180):
        ready = f"http://127.0.0.1:{self.ports['http']}/v2/health/ready"
        end = time.time() + seconds
        while time.time() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended by itself; see the log")
            try:
                urllib.request.urlopen(ready, timeout=1)
                return
            except urllib.error.HTTPError as e:
                if e.code in (404, 405):  # a server without health answers something
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"{self.name} is not ready after {seconds} s")

    def memory_mb(self):
        """Resident memory of the process and its children."""
        def tree(pid):
            kids = open(f"/proc/{pid}/task/{pid}/children").read().split()
            return [pid] + [p for k in kids for p in tree(int(k))]
        pages = sum(int(open(f"/proc/{p}/statm").read().split()[1]) for p in tree(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)

    def cell(self, plane, connections, seconds):
        """(p50 µs, requests/s)"""
        body = self.bodies.path(plane)
        if plane == "grpc":
            log = body + ".log"
            if os.path.exists(log):
                os.remove(log)
            url = f"http://127.0.0.1:{self.ports['grpc']}/inference.GRPCInferenceService/ModelInfer"
            subprocess.run(["h2load", "-c", str(connections), "-m1", "-D", str(seconds), "-t1", "-d", body, "-H", "content-type: application/grpc",
                            "-H", "te: trailers", f"--log-file={log}", url], check=True, capture_output=True)
            times = [int(line.split()[2]) for line in open(log)]
            return statistics.median(times), len(times) / seconds
        path = {"predict": "/predict"}.get(plane, f"/v2/models/{self.bodies.name}/infer")
        kind = "application/octet-stream" if plane == "http" else "application/json"
        arguments = [body, kind] + ([str(self.bodies.header_bytes)] if plane == "http" else [])
        out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", self.bodies.path("post.lua"),
                              f"http://127.0.0.1:{self.ports['http']}{path}", "--", *arguments], check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in out:
            raise SystemExit(f"{self.name} {plane}: {out}")
        value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit], float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def bare(slipway, model, batch):
    """(latency µs, samples/s) of the Session alone."""
    out = subprocess.run([slipway, "bench", model, "--batch", str(batch), "--rounds", "1", "--seconds", "1", "--json"], check=True, capture_output=True, text=True).stdout
    text = out.strip().splitlines()[-1]
    return float(re.search(r'"latency_ms_median":([\d.e+-]+)', text)[1]) * 1e3, float(re.search(r'"throughput_per_s":([\d.e+-]+)', text)[1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("slipway")
    p.add_argument("model")
    p.add_argument("--peer", action="append", default=[], help="NAME=COMMAND (repeatable)")
    p.add_argument("--planes", default="http,json,grpc")
    p.add_argument("--connections", default="1,16")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=int, default=2)
    p.add_argument("--bare-batches", default="1,4,16", help="empty: leave the bare Session out")
    p.add_argument("--config", default="", help="text of config.yaml for slipway")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "log"), "w") as log:
        bodies = Bodies(a.model, folder)
        with open(bodies.path("post.lua"), "w") as f:
            f.write(LUA)
        repository = os.path.join(folder, "repository")
        os.makedirs(os.path.join(repository, bodies.name, "1"))
        os.symlink(os.path.abspath(a.model), os.path.join(repository, bodies.name, "1", "model.onnx"))
        if a.config:
            with open(os.path.join(repository, bodies.name, "config.yaml"), "w") as f:
                f.write(a.config)
        commands = {"slipway": f"{a.slipway} serve {repository} --allow-unverified --http-port {{http}} --grpc-port {{grpc}} --admin-port {{metrics}}"}
        commands.update(peer.split("=", 1) for peer in a.peer)
        servers, figures, bares = [], {}, []
        try:
            for name, command in commands.items():
                servers.append(Server(name, command, bodies, log))
                servers[-1].wait()
            cells = [(s, plane, c) for s in servers for plane in a.planes.split(",") for c in map(int, a.connections.split(","))
                     if os.path.exists(bodies.path(plane)) and not (s.name.startswith("fastapi") and plane != "predict") and not (s.name.startswith("triton") and plane == "predict")]
            for s, plane, c in cells:  # warm up
                s.cell(plane, c, 1)
            for _ in range(a.rounds):
                if a.bare_batches:
                    bares.append({b: bare(a.slipway, a.model, b) for b in map(int, a.bare_batches.split(","))})
                random.shuffle(cells)
                for s, plane, c in cells:
                    figures.setdefault((s.name, plane, c), []).append(s.cell(plane, c, a.seconds))
            memory = {s.name: s.memory_mb() for s in servers}
        except BaseException:
            log.flush()
            print(open(log.name).read()[-3000:], file=sys.stderr)
            raise
        finally:
            for s in servers:
                s.stop()
    if bares:
        best = [max(t for _, t in b.values()) for b in bares]
        single = [b[min(b)][0] for b in bares]
        print(f"bare Session: {statistics.median(single):.0f} µs, best {statistics.median(best):.0f} samples/s; by batch " +
              ", ".join(f"{k}: {statistics.median(b[k][1] for b in bares):.0f}" for k in bares[0]))
    print(f"{'server':<18}{'plane':<9}{'conns':>5}{'p50 µs':>9}{'req/s':>9}{'over bare µs':>14}{'/ best bare':>12}{'req/s ÷ slipway':>17}{'MB':>7}")
    for (name, plane, c), runs in sorted(figures.items(), key=lambda x: (x[0][1], x[0][2], x[0][0])):
        ours = figures.get(("slipway", plane, c))
        over = statistics.median(r[0] - s for r, s in zip(runs, single)) if bares else float("nan")
        share = statistics.median(r[1] / b for r, b in zip(runs, best)) if bares else float("nan")
        ratio = statistics.median(r[1] / o[1] for r, o in zip(runs, ours)) if ours else float("nan")
        print(f"{name:<18}{plane:<9}{c:>5}{statistics.median(r[0] for r in runs):>9.0f}{statistics.median(r[1] for r in runs):>9.0f}{over:>14.0f}{share:>12.2f}{ratio:>17.2f}{memory[name]:>7.0f}")


main()
