#pragma once
// What the tests of the server share: small models in memory, and requests that wait for their answer.
#include <unistd.h>

#include <climits>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/file.h"
#include "model/infer.h"
#include "serve/batching.h"
#include "serve/server.h"
#include "serve/wire.h"

namespace slipway {

/// y = x · weights + 1 for x [N,4], weights diag(scale).
inline Graph scaling_graph(float scale) {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.add_input("x", DType::kFloat32, Shape({Dim("N"), Dim(4)}));
  std::vector<float> w(16, 0.0f);
  for (size_t i = 0; i < 4; ++i) w[i * 5] = scale;
  const ValueId weights = g.add_constant("w", Tensor::of<float>({4, 4}, w));
  const ValueId bias = g.add_constant("b", Tensor::of<float>({4}, {1, 1, 1, 1}));
  g.add_output(g.add_node({.op_type = "Gemm", .name = "gemm", .inputs = {x, weights, bias}}, "y"));
  infer_shapes(g);
  return g;
}

/// One input "x", one output "y", the same.
inline Graph identity_graph(DType dtype, Shape shape) {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.add_input("x", dtype, std::move(shape));
  g.add_output(g.add_node({.op_type = "Identity", .name = "identity", .inputs = {x}}, "y"));
  infer_shapes(g);
  return g;
}

/// A version with untuned plans, where it takes any.
inline std::shared_ptr<ModelVersion> make_version(Graph graph, const std::string& model = "m", int64_t version = 1,
                                                  const ModelConfig& config = {}, Proof proof = Proof::kPassed) {
  VersionSource source{.model = model, .version = version, .graph = std::move(graph), .config = config};
  source.proof = proof;
  source.sha256 = std::to_string(version);
  if (takes_plans(source.graph, config.dims)) {
    for (const int64_t rows : plan_sizes(source.graph, config))
      source.plans[rows] =
          Plan::build(source.graph, {.batch = plan_batch(source.graph, rows), .dims = config.dims, .tune = false});
  }
  return std::make_shared<ModelVersion>(std::move(source));
}

/// A server with models that are live.
inline std::unique_ptr<Server> make_server(const std::vector<std::shared_ptr<ModelVersion>>& versions) {
  auto server = std::make_unique<Server>(ServerOptions{});
  for (const auto& version : versions) {
    server->add(version);
    server->route(version->model(), {.stable = version->version()});
  }
  return server;
}

inline WireTensor wire_of(const std::string& name, const Tensor& tensor, std::shared_ptr<const void>& owner) {
  const auto bytes = std::make_shared<std::vector<std::byte>>(wire_bytes(tensor));
  owner = bytes;
  return {name, tensor.dtype(), tensor.dims(), *bytes};
}

inline InferRequest request_of(const Tensor& x, const std::string& id = "") {
  InferRequest request;
  request.id = id;
  request.inputs = {wire_of("x", x, request.owner)};
  return request;
}

/// Several inputs, which the request keeps.
inline InferRequest request_of(const std::vector<std::pair<std::string, Tensor>>& inputs) {
  InferRequest request;
  const auto owners = std::make_shared<std::vector<std::shared_ptr<const void>>>(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    request.inputs.push_back(wire_of(inputs[i].first, inputs[i].second, (*owners)[i]));
  request.owner = owners;
  return request;
}

/// Waits for the answer that its done() gets.
class Answer {
 public:
  InferDone done() {
    return [this](InferResponse&& r) {
      const std::lock_guard lock(mutex_);
      response_ = std::move(r);
      ++count_;
      there_.notify_all();
    };
  }
  InferResponse& wait() {
    std::unique_lock lock(mutex_);
    there_.wait(lock, [&] { return response_.has_value(); });
    return *response_;
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::optional<InferResponse> response_;
  int count_ = 0;
};

/// The program beside this test; empty when it was not built.
inline std::string slipway_program() {
  char self[PATH_MAX] = {};
  if (::readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return "";
  const std::string path = join_path(parent_folder(self), "slipway");
  return file_exists(path) ? path : "";
}

/// While it lives, everything submitted waits behind it: the observer holds the model's only computing thread.
class Gate {
 public:
  explicit Gate(Server& server) {
    server.observe([this](const Served& served) {
      if (served.request.id != "gate") return;
      std::unique_lock lock(mutex_);
      held_ = true;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
    });
  }
  ~Gate() { open(); }
  void await_held() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false, open_ = false;
};

inline InferResponse infer_and_wait(Server& server, InferRequest request, const std::string& model = "m",
                                    const std::string& version = "") {
  Answer answer;
  server.infer(server.target(model, version, request.sticky), std::move(request), answer.done());
  return std::move(answer.wait());
}

}  // namespace slipway
