// What tells whether requests are batched: the model's axes, the proof from its graph, and its plans held against that.
#include "serve/batching.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "engine/session.h"
#include "model/infer.h"

namespace slipway {
namespace {

constexpr double kRowMayDiffer = 0.01;

// What row `at` of `rows` holds: the same wherever it stands, unlike the others.
void fill_row(std::byte* to, const PortInfo& port, int64_t rows, int64_t at) {
  Dims dims = port.dims;
  dims[0] /= rows;
  Random random(static_cast<uint64_t>(at) + 1);
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (double& v : values) v = is_float(port.dtype) ? random.normal() : static_cast<double>(random.below(2));
  const Tensor row = from_doubles(port.dtype, dims, values);
  std::memcpy(to, row.raw(), row.bytes());
}

// The outputs of a plan on rows [first, first + its rows) of those made up, as tensors.
std::vector<Tensor> made_up_outputs(const std::shared_ptr<const Plan>& plan, int64_t rows, int64_t first) {
  std::vector<Tensor> inputs;
  for (const PortInfo& port : plan->inputs()) {
    Tensor& t = inputs.emplace_back(port.dtype, port.dims);
    const size_t bytes = t.bytes() / static_cast<size_t>(rows);
    for (int64_t row = 0; row < rows; ++row)
      fill_row(t.mutable_raw() + static_cast<size_t>(row) * bytes, port, rows, first + row);
  }
  return Session(plan).run(inputs);
}

}  // namespace

double relative_difference(const Tensor& expected, const Tensor& got) {
  if (expected.dims() != got.dims()) return std::numeric_limits<double>::infinity();
  const std::vector<double> a = to_doubles(expected), b = to_doubles(got);
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    const double d = a[i] == b[i] ? 0 : std::abs(a[i] - b[i]);
    if (!std::isnan(difference) && !(d <= difference)) difference = d;
    if (std::isfinite(a[i])) largest = std::max(largest, std::abs(a[i]));
  }
  return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference / std::max(largest, 1e-30);
}

bool has_strings(const Graph& graph) {
  for (const auto* ids : {&graph.inputs(), &graph.outputs()})
    for (const ValueId id : *ids)
      if (graph.value(id).dtype == DType::kString) return true;
  return false;
}

bool takes_any_rows(const Graph& graph, const std::map<std::string, int64_t>& dims) {
  if (graph.inputs().empty()) return false;
  Graph settled = graph;
  if (!dims.empty()) bind_dims(settled, dims);
  bool others_free = false;
  for (const ValueId id : settled.inputs()) {
    const Shape& shape = settled.value(id).shape;
    if (!shape.has_rank() || shape.rank() == 0 || shape[0].is_known()) return false;
    for (size_t axis = 1; axis < shape.rank(); ++axis) others_free |= !shape[axis].is_known();
  }
  if (others_free) return true;
  try {
    for (const int64_t rows : {2, 3}) {
      Graph bound = graph;
      bind_batch(bound, rows, dims);
      for (const ValueId id : bound.inputs()) {
        const Shape& shape = bound.value(id).shape;
        if (shape.rank() == 0 || shape[0].value() != rows) return false;
      }
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

RowIndependence batching_of(const Graph& graph, const std::map<std::string, int64_t>& dims) {
  if (has_strings(graph)) return {false, "it has strings"};
  if (!takes_any_rows(graph, dims)) return {false, "the first axes of its inputs are not free and the same"};
  return prove_row_independence(graph);
}

bool takes_plans(const Graph& graph, const std::map<std::string, int64_t>& dims) {
  if (has_strings(graph)) return false;
  Graph settled = graph;
  if (!dims.empty()) bind_dims(settled, dims);
  bool first_free = false;
  for (const ValueId id : settled.inputs()) {
    const Shape& shape = settled.value(id).shape;
    if (!shape.has_rank()) return false;
    for (size_t axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis].is_known()) continue;
      if (axis > 0) return false;
      first_free = true;
    }
  }
  return !first_free || batching_of(graph, dims).proven;
}

int64_t padded_rows(int64_t rows, int64_t max_rows) {
  int64_t size = 1;
  while (size < rows && size < max_rows) size *= 4;
  return std::max(rows, std::min(size, max_rows));
}

std::vector<Tensor> made_up_inputs(const ModelPorts& ports, const std::vector<Dims>& dims) {
  SLIPWAY_CHECK(dims.size() == ports.inputs.size());
  Random random(8);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < dims.size(); ++i) {
    const DType dtype = ports.inputs[i].dtype;
    Tensor& t = inputs.emplace_back(dtype, dims[i]);
    if (dtype == DType::kString) continue;
    std::vector<double> values(static_cast<size_t>(t.elements()));
    for (double& value : values) value = is_float(dtype) ? random.normal() : static_cast<double>(random.below(2));
    t = from_doubles(dtype, dims[i], values);
  }
  return inputs;
}

std::vector<Tensor> made_up_inputs(const Graph& graph, int64_t rows, int64_t free) {
  std::vector<Dims> sizes;
  for (const ValueId id : graph.inputs()) {
    const Shape& shape = graph.value(id).shape;
    Dims& dims = sizes.emplace_back();
    for (size_t axis = 0; shape.has_rank() && axis < shape.rank(); ++axis)
      dims.push_back(shape[axis].is_known() ? shape[axis].value() : axis == 0 ? rows : free);
  }
  return made_up_inputs(ports_of(graph), sizes);
}

void run_once(const Program& program, const Graph& graph) {
  for (const int64_t free : {8, 64, 1}) {
    try {
      program.open()->run(made_up_inputs(graph, 1, free));
      return;
    } catch (const Error&) {  // what made-up values and sizes can't be computed by says nothing
    }
  }
}

std::vector<int64_t> plan_sizes(const Graph& graph, const ModelConfig& config) {
  std::vector<int64_t> sizes;
  const int64_t max_rows = takes_any_rows(graph, config.dims) ? config.batching.max_rows : 1;
  for (int64_t rows = 1; rows < max_rows; rows *= 4) sizes.push_back(rows);
  sizes.push_back(max_rows);
  return sizes;
}

int64_t plan_batch(const Graph& graph, int64_t rows) {
  for (const ValueId id : graph.inputs()) {
    const Shape& shape = graph.value(id).shape;
    if (shape.has_rank() && shape.rank() > 0) return shape[0].is_known() ? shape[0].value() : rows;
  }
  return rows;
}

std::string batching_contradiction(const std::map<int64_t, std::shared_ptr<const Plan>>& plans) try {
  const auto& [unit, single] = *plans.begin();
  for (const auto& [rows, plan] : plans) {
    if (unit != 1 || rows == 1) continue;
    const std::vector<Tensor> together = made_up_outputs(plan, rows, 0);
    for (const int64_t row : {int64_t{0}, rows - 1}) {
      const std::vector<Tensor> alone = made_up_outputs(single, 1, row);
      for (size_t i = 0; i < alone.size(); ++i) {
        const int64_t of_a_row = together[i].dims()[0] / rows;
        if (const double off = relative_difference(alone[i], rows_of(together[i], row * of_a_row, of_a_row));
            !(off <= (is_float(alone[i].dtype()) ? kRowMayDiffer : 0)))
          return fmt::format("a row alone and among {} others differ by {:.2g} of the range of output '{}'", rows - 1,
                             off, plan->outputs()[i].name);
      }
    }
  }
  return "";
} catch (const Error&) {
  return "";  // what made-up rows can't be computed by says nothing of rows
}

}  // namespace slipway
