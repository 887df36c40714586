// THE list of backends, and the one that is the oracle for the others: every node by its reference evaluation.
#include "engine/program.h"

#include "base/error.h"
#include "model/evaluate.h"

namespace slipway {
namespace {

class ReferenceSession : public ProgramSession {
 public:
  explicit ReferenceSession(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)) {}
  std::vector<Tensor> run(std::span<const Tensor> inputs) override { return evaluate(*graph_, inputs); }

 private:
  std::shared_ptr<const Graph> graph_;
};

class ReferenceProgram : public Program {
 public:
  explicit ReferenceProgram(const Graph& graph) : graph_(std::make_shared<const Graph>(graph)) {}
  std::unique_ptr<ProgramSession> open() const override { return std::make_unique<ReferenceSession>(graph_); }
  ProgramInfo info() const override { return {}; }

 private:
  std::shared_ptr<const Graph> graph_;
};

std::shared_ptr<const Program> make_reference(const Graph& graph, const ProgramOptions&) {
  return std::make_shared<const ReferenceProgram>(graph);
}

}  // namespace

Backend reference_backend() {
  return {"reference", "every operator by its definition: slow, and what all else is held against", make_reference};
}

std::span<const Backend> all_backends() {
  static const Backend backends[] = {compiled_backend(), reference_backend()};
  return backends;
}

const Backend& backend_named(std::string_view name) {
  std::string names;
  for (const Backend& backend : all_backends()) {
    if (backend.name == name) return backend;
    names += fmt::format("{}{}", names.empty() ? "" : " or ", backend.name);
  }
  fail(ErrorCode::kInvalidArgument, "There is no such engine; use {}: '{}'", names, name);
}

}  // namespace slipway
