// Golden text per pass: golden/<pass>.txt holds cases of a graph before and after, or "unchanged" where the pass must
// not fire; a header that ends in `standard` runs the pass as for a model that is saved. Every case also runs on random
// inputs before and after, and the pass runs twice: the second time nothing may change. With SLIPWAY_WRITE_GOLDEN=1 in
// the environment the files are written anew from what the passes do.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "engine/passes/passes.h"
#include "model/evaluate.h"
#include "model/infer.h"

namespace slipway {
namespace {

const std::string kFolder = std::string(SLIPWAY_SOURCE_DIR) + "/src/engine/passes/golden";

struct GoldenCase {
  std::string header, before, after;
  double tolerance() const {
    const size_t at = header.find("tolerance ");
    return at == std::string::npos ? 1e-6 : std::strtod(header.c_str() + at + 10, nullptr);
  }
  PassContext context() const { return {.standard_onnx = header.ends_with(" standard")}; }
};

std::vector<GoldenCase> read_cases(const std::string& pass) {
  std::vector<GoldenCase> cases;
  std::string* into = nullptr;
  const std::string text = read_text_file(join_path(kFolder, pass + ".txt"));
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("case ")) {
      cases.push_back({line, {}, {}});
      into = &cases.back().before;
    } else if (line == "=>") {
      into = &cases.back().after;
    } else {
      *into += line + "\n";
    }
  }
  return cases;
}

std::string canonical(Graph graph) {
  infer_shapes(graph);
  dead_code(graph, {});
  return to_text(graph);
}

std::vector<Tensor> random_inputs(const Graph& graph) {
  Random random(7);
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs()) {
    Dims dims;
    for (const Dim& d : graph.value(id).shape.dims())
      dims.push_back(d.is_known() ? d.value() : d.symbol() == "N" ? 2 : 4);
    const DType dtype = graph.value(id).dtype;
    const double low = dtype == DType::kUint8 ? 0 : dtype == DType::kInt8 ? -128 : -2;
    const double high = is_float(dtype) ? 2 : low + 255;
    std::vector<double> values(static_cast<size_t>(element_count(dims)));
    for (double& v : values) v = low + (high - low) * random.uniform();
    inputs.push_back(from_doubles(dtype, dims, values));
  }
  return inputs;
}

void expect_same_results(const Graph& before, const Graph& after, double tolerance) {
  const std::vector<Tensor> inputs = random_inputs(before);
  const std::vector<Tensor> expected = evaluate(before, inputs), got = evaluate(after, inputs);
  ASSERT_EQ(expected.size(), got.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(before.value(before.outputs()[i]).name, after.value(after.outputs()[i]).name);
    ASSERT_EQ(expected[i].dims(), got[i].dims());
    ASSERT_EQ(expected[i].dtype(), got[i].dtype());
    const std::vector<double> a = to_doubles(expected[i]), b = to_doubles(got[i]);
    for (size_t k = 0; k < a.size(); ++k) {
      if (a[k] == b[k] || (std::isnan(a[k]) && std::isnan(b[k]))) continue;
      ASSERT_NEAR(a[k], b[k], tolerance * std::max(1.0, std::abs(a[k]))) << "output " << i << " element " << k;
    }
  }
}

class Golden : public testing::TestWithParam<size_t> {};

TEST_P(Golden, Text) {
  const Pass& pass = all_passes()[GetParam()];
  std::vector<GoldenCase> cases = read_cases(std::string(pass.name));
  size_t fired = 0, held = 0;
  std::string written;
  for (GoldenCase& c : cases) {
    SCOPED_TRACE(c.header);
    Graph graph = parse_text(c.before);
    infer_shapes(graph);
    const Graph before = graph;
    const bool changed = pass.run(graph, c.context());
    infer_shapes(graph);
    verify(graph);
    const std::string got = changed ? canonical(graph) : "unchanged\n";
    (changed ? fired : held)++;
    written += c.header + "\n" + c.before + "=>\n" + got;
    if (std::getenv("SLIPWAY_WRITE_GOLDEN") == nullptr) {
      EXPECT_EQ(got, c.after);
    }
    expect_same_results(before, graph, c.tolerance());
    EXPECT_FALSE(pass.run(graph, c.context())) << "not idempotent:\n" << to_text(graph);
  }
  EXPECT_GT(fired, 0u);
  EXPECT_GT(held, 0u);
  if (std::getenv("SLIPWAY_WRITE_GOLDEN") != nullptr)
    write_file(join_path(kFolder, std::string(pass.name) + ".txt"), written);
}

INSTANTIATE_TEST_SUITE_P(Passes, Golden, testing::Range(size_t{0}, all_passes().size()),
                         [](const auto& param) { return std::string(all_passes()[param.param].name); });

}  // namespace
}  // namespace slipway
