// If, Loop and Scan: their subgraphs run through the context, which binds captured values. Loops are bounded.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/shape_rules.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

const Graph& subgraph(const EvalContext& ctx, std::string_view attribute) {
  const auto it = ctx.node.attributes.find(attribute);
  const GraphPtr* graph = it == ctx.node.attributes.end() ? nullptr : std::get_if<GraphPtr>(&it->second);
  if (graph == nullptr || *graph == nullptr) ctx.reject(fmt::format("its subgraph '{}' is missing", attribute));
  return **graph;
}

bool flag(const EvalContext& ctx, const Tensor& t) {
  if (t.dtype() != DType::kBool || t.elements() != 1) ctx.reject("its condition is not one boolean");
  return t.values<bool>()[0];
}

// What holds of a value that is either of the two.
Shape either(const Shape& a, const Shape& b) {
  if (!a.has_rank() || !b.has_rank() || a.rank() != b.rank()) return Shape();
  Shape shape = a;
  for (size_t i = 0; i < a.rank(); ++i)
    if (!a[i].same_as(b[i])) shape[i] = Dim();
  return shape;
}

DType either(DType a, DType b) { return (is_optional(b) ? merge_types(b, a) : merge_types(a, b)).value_or(a); }

void infer_if(InferContext& ctx) {
  if (ctx.subgraph_facts.size() != 2) ctx.reject("it takes a then_branch and an else_branch");
  const auto &no = ctx.subgraph_facts[0], &yes = ctx.subgraph_facts[1];  // by name: else_branch comes first
  if (no.size() != ctx.output_count() || yes.size() != ctx.output_count())
    ctx.reject("its branches do not give as many values as it has outputs");
  const auto& condition = ctx.input(0).constant;
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    if (condition != nullptr && condition->elements() == 1) {
      ctx.results()[i] = to_ints(*condition)[0] != 0 ? yes[i] : no[i];
      continue;
    }
    ctx.set_output(i, either(yes[i].dtype, no[i].dtype), either(yes[i].shape, no[i].shape));
  }
}

void eval_if(EvalContext& ctx) {
  const bool condition = flag(ctx, ctx.input(0));
  std::vector<Tensor> results = ctx.run_subgraph(subgraph(ctx, condition ? "then_branch" : "else_branch"), {});
  if (results.size() != ctx.output_count()) ctx.reject("its branch does not give as many values as it has outputs");
  for (size_t i = 0; i < results.size(); ++i) ctx.set_output(i, std::move(results[i]));
}

// The slices, one an iteration, joined along a new axis; with none, an empty tensor of what the body declares.
Tensor stack(const EvalContext& ctx, const std::vector<Tensor>& slices, int64_t axis, const Value& declared) {
  if (!is_tensor(slices.empty() ? declared.dtype : slices[0].dtype()))
    ctx.reject("its scanned outputs are sequences or optionals");
  if (slices.empty()) {
    Dims dims = {0};
    for (const Dim& d : declared.shape.dims()) dims.push_back(std::max<int64_t>(0, d.value()));
    std::rotate(dims.begin(), dims.begin() + 1,
                dims.begin() + 1 + normalize_axis(axis, static_cast<int64_t>(dims.size()), ctx.node.label()));
    return Tensor(declared.dtype, dims);
  }
  Dims dims = slices[0].dims();
  dims.insert(dims.begin(), static_cast<int64_t>(slices.size()));
  for (const Tensor& slice : slices)
    if (slice.dims() != slices[0].dims() || slice.dtype() != slices[0].dtype())
      ctx.reject("its scanned outputs change shape between iterations");
  const auto at = static_cast<size_t>(normalize_axis(axis, static_cast<int64_t>(dims.size()), ctx.node.label()));
  const int64_t count = slices[0].elements();
  Tensor joined(slices[0].dtype(), dims);
  if (joined.dtype() == DType::kString || bits_of(joined.dtype()) < 8)
    fail(ErrorCode::kUnsupported, "Scanned outputs of this element type are not supported: {}", ctx.node.label());
  for (size_t i = 0; i < slices.size() && count > 0; ++i)
    std::memcpy(joined.mutable_raw() + i * slices[0].bytes(), slices[i].raw(), slices[0].bytes());
  if (at == 0) return joined;
  Dims strides = strides_of(dims);
  std::rotate(dims.begin(), dims.begin() + 1, dims.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  std::rotate(strides.begin(), strides.begin() + 1, strides.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  return copy_strided(joined, dims, dims, strides);
}

void infer_loop(InferContext& ctx) {
  if (ctx.subgraph_facts.size() != 1) ctx.reject("it takes one body");
  const auto& body = ctx.subgraph_facts[0];
  const size_t carried = ctx.input_count() < 2 ? 0 : ctx.input_count() - 2;
  if (body.size() != ctx.output_count() + 1 || ctx.output_count() < carried)
    ctx.reject("its body does not give as many values as it has outputs");
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    const ValueFacts& facts = body[i + 1];
    if (i < carried) {
      ctx.set_output(i, ctx.dtype(i + 2), either(facts.shape, ctx.shape(i + 2)));
      continue;
    }
    std::vector<Dim> dims = facts.shape.dims();
    dims.insert(dims.begin(), Dim());
    ctx.set_output(i, facts.dtype, facts.shape.has_rank() ? Shape(std::move(dims)) : Shape());
  }
}

void eval_loop(EvalContext& ctx) {
  const Graph& body = subgraph(ctx, "body");
  const size_t carried = ctx.input_count() < 2 ? 0 : ctx.input_count() - 2;
  if (body.outputs().size() != ctx.output_count() + 1 || ctx.output_count() < carried)
    ctx.reject("its body does not give as many values as it has outputs");
  const int64_t most = run_limits().iterations;
  int64_t trips = most + 1;
  if (ctx.has_input(0)) {
    const std::vector<int64_t> given = to_ints(ctx.input(0));
    if (given.size() != 1) ctx.reject("its trip count is not one number");
    trips = std::min(given[0], trips);
  }
  bool go_on = !ctx.has_input(1) || flag(ctx, ctx.input(1));
  std::vector<Tensor> state;
  for (size_t i = 0; i < carried; ++i) state.push_back(ctx.input(i + 2));
  std::vector<std::vector<Tensor>> scanned(ctx.output_count() - carried);
  for (int64_t trip = 0; go_on && trip < trips; ++trip) {
    throw_if_late();
    if (trip == most) ctx.reject(fmt::format("it runs for more than {} iterations", most));
    std::vector<Tensor> inputs = {Tensor::scalar(trip), Tensor::scalar(true)};
    inputs.insert(inputs.end(), state.begin(), state.end());
    std::vector<Tensor> results = ctx.run_subgraph(body, inputs);
    go_on = flag(ctx, results[0]);
    for (size_t i = 0; i < carried; ++i) state[i] = std::move(results[i + 1]);
    for (size_t i = 0; i < scanned.size(); ++i) scanned[i].push_back(std::move(results[i + 1 + carried]));
  }
  for (size_t i = 0; i < carried; ++i) ctx.set_output(i, std::move(state[i]));
  for (size_t i = 0; i < scanned.size(); ++i)
    ctx.set_output(i + carried, stack(ctx, scanned[i], 0, body.value(body.outputs()[i + 1 + carried])));
}

template <typename Context>
size_t scan_states(const Context& ctx) {
  const int64_t scanned = ctx.node.integer("num_scan_inputs", 0);
  if (scanned < 1 || scanned > static_cast<int64_t>(ctx.input_count()))
    ctx.reject("its number of scanned inputs is wrong");
  const size_t states = ctx.input_count() - static_cast<size_t>(scanned);
  if (states > ctx.output_count()) ctx.reject("it has fewer outputs than states");
  return states;
}

int64_t entry(const std::vector<int64_t>& list, size_t i) { return i < list.size() ? list[i] : 0; }

void infer_scan(InferContext& ctx) {
  const size_t states = scan_states(ctx);
  if (ctx.subgraph_facts.size() != 1 || ctx.subgraph_facts[0].size() != ctx.output_count())
    ctx.reject("its body does not give as many values as it has outputs");
  const auto& body = ctx.subgraph_facts[0];
  const auto in_axes = ctx.node.integers("scan_input_axes"), out_axes = ctx.node.integers("scan_output_axes");
  Dim length;
  for (size_t i = states; i < ctx.input_count(); ++i) {
    const Shape& shape = ctx.shape(i);
    if (!shape.has_rank()) continue;
    const auto rank = static_cast<int64_t>(shape.rank());
    const Dim& found = shape[static_cast<size_t>(normalize_axis(entry(in_axes, i - states), rank, ctx.node.label()))];
    if (!found.is_unknown() && !length.is_known()) length = found;
  }
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    if (i < states) {
      ctx.set_output(i, ctx.dtype(i), either(ctx.shape(i), body[i].shape));
      continue;
    }
    std::vector<Dim> dims = body[i].shape.dims();
    const auto rank = static_cast<int64_t>(dims.size()) + 1;
    dims.insert(dims.begin() + normalize_axis(entry(out_axes, i - states), rank, ctx.node.label()), length);
    ctx.set_output(i, body[i].dtype, body[i].shape.has_rank() ? Shape(std::move(dims)) : Shape());
  }
}

void eval_scan(EvalContext& ctx) {
  const Graph& body = subgraph(ctx, "body");
  const size_t states = scan_states(ctx), scanned = ctx.input_count() - states;
  if (body.outputs().size() != ctx.output_count())
    ctx.reject("its body does not give as many values as it has outputs");
  const auto in_axes = ctx.node.integers("scan_input_axes"), out_axes = ctx.node.integers("scan_output_axes");
  const auto in_back = ctx.node.integers("scan_input_directions"),
             out_back = ctx.node.integers("scan_output_directions");
  std::vector<Tensor> state;
  for (size_t i = 0; i < states; ++i) state.push_back(ctx.input(i));
  int64_t length = -1;
  std::vector<size_t> axes;
  for (size_t i = 0; i < scanned; ++i) {
    const Tensor& x = ctx.input(states + i);
    axes.push_back(static_cast<size_t>(normalize_axis(entry(in_axes, i), x.rank(), ctx.node.label())));
    const int64_t size = x.dims()[axes[i]];
    if (length >= 0 && size != length) ctx.reject("its scanned inputs differ in length");
    length = size;
  }
  std::vector<std::vector<Tensor>> slices(ctx.output_count() - states);
  for (int64_t step = 0; step < length; ++step) {
    throw_if_late();
    std::vector<Tensor> inputs = state;
    for (size_t i = 0; i < scanned; ++i) {
      const Tensor& x = ctx.input(states + i);
      Dims dims = x.dims(), strides = strides_of(x.dims());
      const int64_t base = (entry(in_back, i) != 0 ? length - 1 - step : step) * strides[axes[i]];
      dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axes[i]));
      strides.erase(strides.begin() + static_cast<std::ptrdiff_t>(axes[i]));
      inputs.push_back(copy_strided(x, dims, dims, strides, base));
    }
    std::vector<Tensor> results = ctx.run_subgraph(body, inputs);
    for (size_t i = 0; i < states; ++i) state[i] = std::move(results[i]);
    for (size_t i = 0; i < slices.size(); ++i) slices[i].push_back(std::move(results[states + i]));
  }
  for (size_t i = 0; i < states; ++i) ctx.set_output(i, std::move(state[i]));
  for (size_t i = 0; i < slices.size(); ++i) {
    if (entry(out_back, i) != 0) std::reverse(slices[i].begin(), slices[i].end());
    ctx.set_output(states + i, stack(ctx, slices[i], entry(out_axes, i), body.value(body.outputs()[states + i])));
  }
}

// Opset 8: the lengths of the sequences come first, and everything else has a batch in front.
template <typename Context>
size_t batch_scan_states(const Context& ctx) {
  const int64_t scanned = ctx.node.integer("num_scan_inputs", 0);
  if (scanned < 1 || scanned >= static_cast<int64_t>(ctx.input_count()))
    ctx.reject("its number of scanned inputs is wrong");
  const size_t states = ctx.input_count() - 1 - static_cast<size_t>(scanned);
  if (states > ctx.output_count()) ctx.reject("it has fewer outputs than states");
  return states;
}

void infer_batch_scan(InferContext& ctx) {
  const size_t states = batch_scan_states(ctx);
  if (ctx.subgraph_facts.size() != 1 || ctx.subgraph_facts[0].size() != ctx.output_count())
    ctx.reject("its body does not give as many values as it has outputs");
  const Shape& scanned = ctx.shape(states + 1);
  const Dim batch = scanned.rank() >= 2 ? scanned[0] : Dim(), length = scanned.rank() >= 2 ? scanned[1] : Dim();
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    const ValueFacts& body = ctx.subgraph_facts[0][i];
    std::vector<Dim> dims = body.shape.dims();
    if (i >= states) dims.insert(dims.begin(), length);
    dims.insert(dims.begin(), batch);
    ctx.set_output(i, body.dtype, body.shape.has_rank() ? Shape(std::move(dims)) : Shape());
  }
}

Tensor row_of(const Tensor& t, int64_t row) {
  Dims dims = t.dims(), strides = strides_of(t.dims());
  const int64_t base = row * strides[0];
  dims.erase(dims.begin());
  strides.erase(strides.begin());
  return copy_strided(t, dims, dims, strides, base);
}

// Zeros behind the last row, up to `rows`.
Tensor lengthened(const Tensor& t, int64_t rows) {
  Dims dims = t.dims();
  dims[0] = rows;
  Tensor longer(t.dtype(), dims);
  if (t.bytes() > 0) std::memcpy(longer.mutable_raw(), t.raw(), t.bytes());
  return longer;
}

void eval_batch_scan(EvalContext& ctx) {
  const Graph& body = subgraph(ctx, "body");
  const size_t states = batch_scan_states(ctx), scanned = ctx.input_count() - 1 - states;
  if (body.outputs().size() != ctx.output_count())
    ctx.reject("its body does not give as many values as it has outputs");
  const Dims& first = ctx.input(states + 1).dims();
  for (size_t i = 0; i < states + scanned; ++i) {
    const Dims& dims = ctx.input(i + 1).dims();
    const bool fits = !first.empty() && !dims.empty() && dims[0] == first[0] &&
                      (i < states || (dims.size() >= 2 && dims[1] == first[1]));
    if (!fits) ctx.reject(fmt::format("input {} {} has not the others' batch and length", i + 1, to_string(dims)));
  }
  const int64_t batch = first[0], longest = first[1];
  std::vector<int64_t> lengths(static_cast<size_t>(batch), longest);
  if (ctx.has_input(0)) lengths = to_ints(ctx.input(0));
  if (static_cast<int64_t>(lengths.size()) != batch) ctx.reject("its lengths are not one a sequence");
  const auto backward = ctx.node.integers("directions");
  std::vector<std::vector<Tensor>> results(ctx.output_count());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t length = lengths[static_cast<size_t>(b)];
    if (length < 0 || length > longest) ctx.reject(fmt::format("a sequence has length {} of {}", length, longest));
    std::vector<Tensor> state, rows;
    for (size_t i = 0; i < states; ++i) state.push_back(row_of(ctx.input(i + 1), b));
    for (size_t i = 0; i < scanned; ++i) rows.push_back(row_of(ctx.input(states + 1 + i), b));
    std::vector<std::vector<Tensor>> slices(ctx.output_count() - states);
    for (int64_t step = 0; step < length; ++step) {
      std::vector<Tensor> inputs = state;
      for (size_t i = 0; i < scanned; ++i)
        inputs.push_back(row_of(rows[i], entry(backward, i) != 0 ? length - 1 - step : step));
      std::vector<Tensor> given = ctx.run_subgraph(body, inputs);
      for (size_t i = 0; i < states; ++i) state[i] = std::move(given[i]);
      for (size_t i = 0; i < slices.size(); ++i) slices[i].push_back(std::move(given[states + i]));
    }
    for (size_t i = 0; i < states; ++i) results[i].push_back(std::move(state[i]));
    for (size_t i = 0; i < slices.size(); ++i)
      results[states + i].push_back(
          lengthened(stack(ctx, slices[i], 0, body.value(body.outputs()[states + i])), longest));
  }
  for (size_t i = 0; i < results.size(); ++i)
    ctx.set_output(i, stack(ctx, results[i], 0, body.value(body.outputs()[i])));
}

constexpr OpSpec kControlFlowOps[] = {
    {.name = "If",
     .min_inputs = 1,
     .min_outputs = 1,
     .max_outputs = -1,
     .infer = infer_if,
     .eval = eval_if,
     .traits = kHasSubgraph | kTakesAny},
    {.name = "Loop",
     .min_inputs = 0,  // neither trip count nor condition need be there
     .max_inputs = -1,
     .max_outputs = -1,
     .infer = infer_loop,
     .eval = eval_loop,
     .traits = kHasSubgraph | kTakesAny},
    {.name = "Scan",
     .since = 8,
     .until = 8,
     .min_inputs = 0,  // the lengths need not be there
     .max_inputs = -1,
     .max_outputs = -1,
     .infer = infer_batch_scan,
     .eval = eval_batch_scan,
     .traits = kHasSubgraph | kTakesAny},
    {.name = "Scan",
     .since = 9,
     .min_inputs = 1,
     .max_inputs = -1,
     .max_outputs = -1,
     .infer = infer_scan,
     .eval = eval_scan,
     .traits = kHasSubgraph | kTakesAny},
};

}  // namespace

std::span<const OpSpec> control_flow_ops() { return kControlFlowOps; }

}  // namespace slipway
