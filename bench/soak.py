#!/usr/bin/env python3
"""A server under everything at once: exact callers, reloads, rollouts, hostile clients, and models that crash, hang and
eat memory while they load. Passes when no answer was wrong, no request was lost, and memory did not grow.

  bench/soak.py build/release/slipway --minutes 60

Needs the Python packages numpy and onnx. One line a minute tells how it stands; --keep leaves the folder with the logs.
"""
import argparse, http.client, json, os, random, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Seconds after which a request that was not answered is lost.
PATIENCE = 30
STEPS = """
steps:
  - {share: 0.2, min_seconds: 2, min_requests: 50, max_seconds: 600, max_latency_ratio: 100, max_slow_share: 1}
  - {share: 1, min_seconds: 2, min_requests: 50, max_seconds: 600, max_latency_ratio: 100, max_slow_share: 1}
"""


def save(graph, path, opset=17):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "wb") as f:
        f.write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString())
    os.rename(path + ".new", path)


def value(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def scaling(scale, bias=1):
    """y = scale * x + bias for whole numbers: every rounding is exact, so every answer is known."""
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    weights = [constant("w", np.eye(4, dtype=np.float32) * scale), constant("b", np.full(4, bias, np.float32))]
    return helper.make_graph([gemm], "scaling", [value("x", ["N", 4])], [value("y", ["N", 4])], weights)


def hangs():
    trips, flag = value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL)
    inner = helper.make_graph([helper.make_node("Identity", ["d"], ["e"]), helper.make_node("Neg", ["u"], ["t"])], "inner",
                              [value("j", [], TensorProto.INT64), value("d", [], TensorProto.BOOL), value("u", [1, 4])],
                              [value("e", [], TensorProto.BOOL), value("t", [1, 4])])
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["k"]), helper.make_node("Loop", ["n", "", "v"], ["w"], body=inner)],
                             "body", [trips, flag, value("v", [1, 4])], [value("k", [], TensorProto.BOOL), value("w", [1, 4])])
    return helper.make_graph([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], "hangs", [value("x", [1, 4])],
                             [value("y", [1, 4])], [constant("n", np.int64(10_000_000))])


def eats_memory():
    nodes = [helper.make_node("Expand", ["x", "large"], ["wide"]), helper.make_node("Neg", ["wide"], ["less"]),
             helper.make_node("ReduceSum", ["less"], ["y"], keepdims=0)]
    return helper.make_graph(nodes, "eats", [value("x", [1])], [value("y", [])], [constant("large", np.int64([200000, 100000]))])


class Soak:
    def __init__(self, options):
        self.options, self.lock, self.stop = options, threading.Lock(), threading.Event()
        self.counts, self.faults, self.server = {}, [], None
        self.folder = tempfile.mkdtemp(prefix="slipway-soak-")
        self.repository = os.path.join(self.folder, "repository")

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + by

    def fault(self, what):
        with self.lock:
            self.faults.append(what)
        print(f"FAULT {what}", flush=True)

    def path(self, model, version, name="model.onnx"):
        return os.path.join(self.repository, model, str(version), name)

    def publish(self, model, version, graph, config=""):
        save(graph, self.path(model, version))
        if config:
            with open(os.path.join(self.repository, model, "config.yaml"), "w") as f:
                f.write(config)

    def start(self):
        self.publish("scale", 1, scaling(2, 1))
        self.publish("churn", 1, scaling(7))
        os.makedirs(os.path.dirname(self.path("fashion", 1)))
        shutil.copy(self.options.model, self.path("fashion", 1))
        with open(os.path.join(self.folder, "steps.yaml"), "w") as f:
            f.write(STEPS)
        log = open(os.path.join(self.folder, "log"), "w")
        self.server = subprocess.Popen(
            [self.options.program, "serve", self.repository, "--json", "--http-port", "0", "--grpc-port", "0", "--admin-port",
             "0", "--model-control", "explicit", "--allow-unverified", "--cache-dir", os.path.join(self.folder, "cache"),
             "--record", os.path.join(self.folder, "live.rec"), "--record-max-mib", "16", "--idle-timeout-s", "20"],
            stdout=subprocess.PIPE, stderr=log, text=True)
        for line in self.server.stdout:
            found = re.findall(r'"(http|grpc|admin)_port":(\d+)', line)
            if len(found) == 3:
                self.ports = {name: int(port) for name, port in found}
                break
        else:
            sys.exit("The server did not start; its log: " + log.name)
        threading.Thread(target=lambda: [None for _ in self.server.stdout], daemon=True).start()
        deadline = time.time() + 120
        while any(self.call("POST", f"/v2/models/{m}/infer", self.body([[0] * 4]))[0] == 404 for m in ("scale", "churn")):
            if time.time() > deadline:
                sys.exit("The models are not live after two minutes; the log: " + log.name)
            time.sleep(0.2)

    def call(self, method, path, body=None, port="http", timeout=PATIENCE):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @staticmethod
    def body(rows):
        return json.dumps(dict(inputs=[dict(name="x", shape=[len(rows), 4], datatype="FP32", data=rows)]))

    def exact_caller(self, seed):
        """Whole numbers whose answer by the version that it names is known."""
        chance = random.Random(seed)
        connection = None
        while not self.stop.is_set():
            rows = [[chance.randint(-1000, 1000) for _ in range(4)] for _ in range(chance.choice((1, 1, 1, 2, 5, 16, 40)))]
            try:
                if connection is None or chance.random() < 0.02:
                    connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=PATIENCE)
                connection.request("POST", "/v2/models/scale/infer", self.body(rows), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    self.fault(f"scale answered {answer.status}: {text[:200]}")
                    continue
                reply = json.loads(text)
                if reply["outputs"][0]["data"] != [2 * x + int(reply["model_version"]) for row in rows for x in row]:
                    self.fault(f"scale/{reply['model_version']} answered {text[:200]} to {rows[:2]}")
                self.count("answers")
            except (OSError, http.client.HTTPException) as error:
                self.fault(f"a request was lost: {error!r}")
                connection = None
            time.sleep(chance.random() * 0.01)

    def expect_load(self, model, good, path="load"):
        try:
            got, text = self.call("POST", f"/v2/repository/models/{model}/{path}", "{}", timeout=120)
        except OSError as error:
            return self.fault(f"{path} of {model}: {error!r}")
        self.count(f"{model} {path}s")
        if (got == 200) != good:
            self.fault(f"{path} of {model} answered {got}: {text[:300]}")

    def reloads(self):
        """The same version with other bytes: after a load it answers by those, and by no others. They are not what was
        live, so they are not live again; the version is asked by its number."""
        scale = 7
        while not self.stop.wait(1):
            scale = 3 + (scale + 1) % 50
            self.expect_load("churn", True, "unload")
            self.publish("churn", 1, scaling(scale))
            self.expect_load("churn", True)
            try:
                status, text = self.call("POST", "/v2/models/churn/versions/1/infer", self.body([[1, 2, 3, 4]]))
            except OSError as error:
                self.fault(f"churn was lost: {error!r}")
                continue
            if status != 200 or json.loads(text)["outputs"][0]["data"] != [scale * x + 1 for x in (1, 2, 3, 4)]:
                self.fault(f"churn, whose scale is {scale}, answered {status}: {text[:200]}")

    def rollouts(self):
        admin = f"http://127.0.0.1:{self.ports['admin']}"
        run = lambda *verb: subprocess.run([self.options.program, "rollout", *verb, "--url", admin], capture_output=True, text=True)
        self.publish("scale", 2, scaling(2, 2))
        self.expect_load("scale", True)
        start = ["start", "scale", "2", "--steps", os.path.join(self.folder, "steps.yaml"), "--override-unverified", "scale/2"]
        while not self.stop.wait(1):
            for verb in (start + ["--wait"], ["back", "scale"], start, ["pause", "scale"], ["resume", "scale"], ["abort", "scale"]):
                if self.stop.is_set():
                    return
                done = run(*verb)
                self.count(f"rollout {verb[0]}s")
                if done.returncode != 0 and not self.stop.is_set():
                    self.fault(f"rollout {' '.join(verb[:3])} ended {done.returncode}: {(done.stdout + done.stderr)[-400:]}")

    def bad_models(self):
        self.publish("hangs", 1, hangs(), "prepare: {seconds: 5}\n")
        self.publish("eats", 1, eats_memory(), "prepare: {memory_mib: 600}\n")
        self.publish("crashes", 1, hangs(), "prepare: {seconds: 60}\n")
        with open(self.path("scale", 1), "rb") as f:
            good = f.read()
        chance = random.Random(5)
        while not self.stop.wait(30):
            for model in ("hangs", "eats"):
                self.expect_load(model, False)
            killer = threading.Thread(target=self.kill_preparation)
            killer.start()
            self.expect_load("crashes", False)
            killer.join()
            os.makedirs(os.path.dirname(self.path("garbage", 1)), exist_ok=True)
            garbage = bytearray(good[:chance.randint(0, len(good) - 1)])
            for _ in range(3):
                if garbage:
                    garbage[chance.randrange(len(garbage))] = chance.randrange(256)
            with open(self.path("garbage", 1), "wb") as f:
                f.write(garbage)
            self.call("POST", "/v2/repository/models/garbage/load", "{}", timeout=120)  # a rare file of these is valid
            self.count("garbage loads")

    def kill_preparation(self):
        """The process that prepares the model "crashes" dies by SIGSEGV: the only one that takes so long."""
        seen = {}
        while not self.stop.wait(0.2):
            for child in self.children():
                if time.time() - seen.setdefault(child, time.time()) > 15:
                    return os.kill(child, signal.SIGSEGV)

    def children(self):
        found = []
        for pid in os.listdir("/proc"):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    state, parent = f.read().rsplit(")", 1)[1].split()[:2]
                if int(parent) == self.server.pid and state != "Z":
                    found.append(int(pid))
            except (OSError, ValueError):
                pass
        return found

    def hostile(self, seed):
        chance = random.Random(seed)
        held = []
        while not self.stop.is_set():
            port = chance.choice(("http", "http", "grpc", "admin"))
            try:
                s = socket.create_connection(("127.0.0.1", self.ports[port]), timeout=2)
                s.settimeout(0.5)
                kind = chance.randrange(8)
                if kind == 0:
                    s.sendall(os.urandom(chance.randint(1, 5000)))
                elif kind == 1:  # a request that stops in the middle, and stays
                    s.sendall(b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"{" * 50)
                elif kind == 2:  # leaves without reading the answer
                    body = self.body([[1, 2, 3, 4]] * 500).encode()
                    s.sendall(b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif kind == 3:  # smuggling
                    s.sendall(b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /")
                elif kind == 4:  # values of the wrong kind, shape or name
                    body = chance.choice((b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":["a",null,{},1]}]}',
                                          b'{"inputs":[{"name":"z","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}',
                                          b'{"inputs":[{"name":"x","shape":[-9999999999,4],"datatype":"FP32","data":[]}]}',
                                          b'{"inputs":' + b"[" * 20000, b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1e999,2,3,4]}]}'))
                    s.sendall(b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                elif kind == 5:  # HTTP/2 that breaks off
                    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(chance.randint(0, 300)))
                elif kind == 6:  # a head without an end
                    s.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * chance.randint(1, 100000))
                else:
                    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                if chance.random() < 0.2:
                    held.append(s)  # idle
                    if len(held) > 40:
                        held.pop(0).close()
                else:
                    try:
                        s.recv(65536)
                    except OSError:
                        pass
                    s.close()
                self.count("attacks")
            except OSError:
                self.count("attacks")
            time.sleep(0.05)

    def resident_mib(self):
        with open(f"/proc/{self.server.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    def load(self, url):
        return subprocess.Popen([self.options.program, "load", url, "--model", "fashion", "--rate", "40", "--poisson",
                                 "--max-error-rate", "0", "--timeout-s", str(PATIENCE), "--admin",
                                 f"http://127.0.0.1:{self.ports['admin']}", "--soak", f"{self.options.minutes * 60:.0f}s"],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self):
        loads = {}
        try:
            self.start()
            loads["HTTP"] = self.load(f"http://127.0.0.1:{self.ports['http']}")
            loads["gRPC"] = self.load(f"grpc://127.0.0.1:{self.ports['grpc']}")
            return self.soak(loads)
        finally:  # Ctrl-C, too, leaves nothing running
            self.stop.set()
            for process in [*loads.values(), self.server]:
                if process is not None and process.poll() is None:
                    process.kill()

    def soak(self, loads):
        threads = [threading.Thread(target=self.exact_caller, args=(i,)) for i in range(3)]
        threads += [threading.Thread(target=self.hostile, args=(i,)) for i in range(2)]
        threads += [threading.Thread(target=part) for part in (self.reloads, self.rollouts, self.bad_models)]
        for t in threads:
            t.start()
        begin = time.time()
        memory = []
        while time.time() < begin + self.options.minutes * 60:
            if self.server.poll() is not None:
                self.fault(f"the server ended: {self.server.returncode}")
                break
            time.sleep(min(60, self.options.minutes * 60 / 5))
            memory.append(self.resident_mib())
            with self.lock:
                print(f"{(time.time() - begin) / 60:5.1f} min  {memory[-1]:.1f} MiB  " +
                      ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items())), flush=True)
        self.stop.set()
        for plane, process in loads.items():
            text = process.communicate(timeout=180)[0]
            print(f"load over {plane}: exit {process.returncode}\n{text}")
            if process.returncode != 0:
                self.fault(f"the load over {plane} did not pass")
        for t in threads:
            t.join(timeout=180)
        self.server.send_signal(signal.SIGTERM)
        if self.server.wait(timeout=60) != 0:
            self.fault(f"the server ended {self.server.returncode}")
        print("memory, MiB, once a minute: " + " ".join(f"{m:.0f}" for m in memory))
        print(f"{len(self.faults)} faults in {self.counts.get('answers', 0)} exact answers" if self.faults else
              f"no fault in {self.counts.get('answers', 0)} exact answers")
        if self.options.keep or self.faults:
            print("kept: " + self.folder)
        else:
            shutil.rmtree(self.folder)
        return 1 if self.faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--model", default="models/fashion_mnist_resnet.onnx")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the repository and the server's log")
    sys.exit(Soak(parser.parse_args()).run())
