// THE list of backends, and the one that is the oracle for the others: every node by its reference evaluation.
#include "engine/program.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/interrupt.h"
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
  explicit ReferenceProgram(const Graph& graph)
      : ports_(ports_of(graph)), graph_(std::make_shared<const Graph>(graph)) {}
  const ModelPorts& ports() const override { return ports_; }
  std::unique_ptr<ProgramSession> open() const override { return std::make_unique<ReferenceSession>(graph_); }
  void prepare(std::span<const Tensor>) const override {}
  ProgramInfo info() const override { return {}; }
  std::vector<PreparedShape> prepared() const override { return {}; }

 private:
  const ModelPorts ports_;
  std::shared_ptr<const Graph> graph_;
};

std::shared_ptr<const Program> make_reference(const Graph& graph, const ProgramOptions&) {
  return std::make_shared<const ReferenceProgram>(graph);
}

}  // namespace

std::string prepare_wholly(const Program& program, std::span<const std::vector<Tensor>> examples) {
  constexpr int kSights = 2;  // inner parts are prepared at the second
  std::string why;
  for (const std::vector<Tensor>& inputs : examples) {
    throw_if_interrupted();
    program.prepare(inputs);
    const std::vector<PreparedShape> prepared = program.prepared();
    if (prepared.empty() || prepared.front().whole) continue;
    try {
      const auto session = program.open();
      for (int i = 0; i < kSights; ++i) session->run(inputs);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInvalidArgument && error.code() != ErrorCode::kInvalidModel) throw;
      why = error.what();
    }
  }
  return why;
}

std::vector<std::shared_ptr<const Plan>> plans_of(const Program& program) {
  std::vector<std::shared_ptr<const Plan>> plans;
  for (const PreparedShape& shape : program.prepared())
    plans.insert(plans.end(), shape.plans.begin(), shape.plans.end());
  return plans;
}

std::string choices_digest_of(std::span<const std::shared_ptr<const Plan>> plans) {
  if (plans.size() == 1) return plans[0]->choices_digest();
  Sha256 hash;
  for (const auto& plan : plans) hash.add(plan->choices_digest());
  return hash.hex();
}

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
