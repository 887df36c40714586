// Sequences and optionals. A sequence is a tensor value that holds tensors, an optional is absent or the very value
// that it holds, so Optional and OptionalGetElement pass it on. What lies in a sequence has a type and no shape until
// it runs.
#include <algorithm>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/shape_rules.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

template <typename Context>
void require_sequence_type(const Context& ctx, DType type) {
  if (type != DType::kUndefined && !is_sequence(present_of(type)))
    ctx.reject(fmt::format("it takes a sequence, not {}", to_string(type)));
}

const std::vector<Tensor>& sequence_items(const EvalContext& ctx) {
  if (!is_sequence(ctx.input(0).dtype()))
    ctx.reject(fmt::format("it takes a sequence, not {}", to_string(ctx.input(0).dtype())));
  return ctx.input(0).items();
}

DType sequence_element(const InferContext& ctx) {
  require_sequence_type(ctx, ctx.dtype(0));
  return element_of(ctx.dtype(0));
}

// Places count from the end when they are negative; `limit` is the first that does not exist.
size_t sequence_place(const EvalContext& ctx, size_t input, int64_t size, int64_t limit) {
  const Tensor& position = ctx.input(input);
  if (!is_tensor(position.dtype()) || position.elements() != 1) ctx.reject("its position is not one number");
  const int64_t at = to_ints(position)[0], place = at < 0 ? at + size : at;
  if (place < 0 || place >= limit) ctx.reject(fmt::format("position {} is outside a sequence of {}", at, size));
  return static_cast<size_t>(place);
}

int64_t size_of(const std::vector<Tensor>& items) { return static_cast<int64_t>(items.size()); }

DType empty_sequence_type(const Node& node) {
  const int64_t code = node.integer("dtype", static_cast<int64_t>(DType::kFloat32));
  if (code <= 0 || code >= kDTypeCount) reject(node, fmt::format("its dtype names no element type: {}", code));
  return static_cast<DType>(code);
}

void infer_sequence_empty(InferContext& ctx) { ctx.set_output(0, sequence_of(empty_sequence_type(ctx.node)), Shape()); }
void eval_sequence_empty(EvalContext& ctx) { ctx.set_output(0, Tensor::sequence(empty_sequence_type(ctx.node), {})); }

void infer_sequence_construct(InferContext& ctx) { ctx.set_output(0, sequence_of(ctx.dtype(0)), Shape()); }

void eval_sequence_construct(EvalContext& ctx) {
  std::vector<Tensor> items;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    items.push_back(ctx.input(i));
    if (items[i].dtype() != items[0].dtype())
      ctx.reject(fmt::format("its tensors differ in type: {} and {}", to_string(items[0].dtype()),
                             to_string(items[i].dtype())));
  }
  const DType element = items[0].dtype();
  ctx.set_output(0, Tensor::sequence(element, std::move(items)));
}

void infer_sequence_at(InferContext& ctx) { ctx.set_output(0, sequence_element(ctx), Shape()); }

void eval_sequence_at(EvalContext& ctx) {
  const std::vector<Tensor>& items = sequence_items(ctx);
  ctx.set_output(0, items[sequence_place(ctx, 1, size_of(items), size_of(items))]);
}

void infer_sequence_insert(InferContext& ctx) {
  const DType element = sequence_element(ctx);
  ctx.set_output(0, sequence_of(element == DType::kUndefined ? ctx.dtype(1) : element), Shape());
}

void eval_sequence_insert(EvalContext& ctx) {
  std::vector<Tensor> items = sequence_items(ctx);
  const Tensor& item = ctx.input(1);
  const DType element = element_of(ctx.input(0).dtype());
  if (!is_tensor(item.dtype()) || (element != DType::kUndefined && item.dtype() != element))
    ctx.reject(fmt::format("{} does not go into {}", to_string(item.dtype()), to_string(ctx.input(0).dtype())));
  const size_t place = ctx.has_input(2) ? sequence_place(ctx, 2, size_of(items), size_of(items) + 1) : items.size();
  items.insert(items.begin() + static_cast<std::ptrdiff_t>(place), item);
  ctx.set_output(0, Tensor::sequence(item.dtype(), std::move(items)));
}

void infer_sequence_erase(InferContext& ctx) { ctx.set_output(0, sequence_of(sequence_element(ctx)), Shape()); }

void eval_sequence_erase(EvalContext& ctx) {
  std::vector<Tensor> items = sequence_items(ctx);
  if (items.empty()) ctx.reject("its sequence is empty");
  const size_t place = ctx.has_input(1) ? sequence_place(ctx, 1, size_of(items), size_of(items)) : items.size() - 1;
  items.erase(items.begin() + static_cast<std::ptrdiff_t>(place));
  ctx.set_output(0, Tensor::sequence(element_of(ctx.input(0).dtype()), std::move(items)));
}

void infer_sequence_length(InferContext& ctx) {
  require_sequence_type(ctx, ctx.dtype(0));
  ctx.set_output(0, DType::kInt64, Shape(std::vector<Dim>{}));
}
void eval_sequence_length(EvalContext& ctx) { ctx.set_output(0, Tensor::scalar(size_of(sequence_items(ctx)))); }

// The sizes along the axis: as many as `split` lists, or pieces of one size, of which the last may be smaller.
std::vector<int64_t> piece_sizes(const EvalContext& ctx, int64_t size) {
  std::vector<int64_t> sizes = {1};
  const bool listed = ctx.has_input(1) && ctx.input(1).rank() > 0;
  if (ctx.has_input(1)) sizes = to_ints(ctx.input(1));
  int64_t sum = 0;
  for (int64_t s : sizes) {
    if (s < (listed ? 0 : 1) || s > (listed ? size - sum : s)) ctx.reject(fmt::format("it can't split {} so", size));
    sum += s;
  }
  if (listed) {
    if (sum != size) ctx.reject(fmt::format("its pieces add up to {}, not to {}", sum, size));
    return sizes;
  }
  if (sizes.size() != 1) ctx.reject("its split is not one number");
  const int64_t each = std::min(sizes[0], std::max<int64_t>(size, 1));
  if (static_cast<uint64_t>(size / each) > run_limits().value_bytes / sizeof(Tensor))
    ctx.reject(fmt::format("it would make {} pieces, more than memory is allowed for", size / each));
  sizes.assign(static_cast<size_t>(size / each), each);
  if (size % each != 0) sizes.push_back(size % each);
  return sizes;
}

void infer_split_to_sequence(InferContext& ctx) {
  if (!is_tensor(ctx.dtype(0))) ctx.reject("it splits a tensor");
  ctx.set_output(0, sequence_of(ctx.dtype(0)), Shape());
}

void eval_split_to_sequence(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", 0), x.rank(), ctx.node.label()));
  const Dims strides = strides_of(x.dims());
  const bool drops_axis = !ctx.has_input(1) && ctx.node.integer("keepdims", 1) == 0;
  std::vector<Tensor> items;
  int64_t start = 0;
  for (int64_t size : piece_sizes(ctx, x.dims()[axis])) {
    Dims box = x.dims();
    box[axis] = size;
    Dims dims = box;
    if (drops_axis) dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
    items.push_back(copy_strided(x, dims, box, strides, start * strides[axis]));
    start += size;
  }
  ctx.set_output(0, Tensor::sequence(x.dtype(), std::move(items)));
}

// Items side by side along the axis: seen as [outer, size · inner] each, rows alternate.
void eval_concat_from_sequence(EvalContext& ctx) {
  std::vector<Tensor> items = sequence_items(ctx);
  if (items.empty()) ctx.reject("its sequence is empty");
  if (!ctx.node.has("axis")) ctx.reject("its axis is missing");
  const bool stacks = ctx.node.integer("new_axis", 0) != 0;
  const auto axis = static_cast<size_t>(
      normalize_axis(ctx.node.integer("axis", 0), items[0].rank() + (stacks ? 1 : 0), ctx.node.label()));
  Dims dims;
  for (Tensor& item : items) {
    Dims own = item.dims();
    if (stacks && own.size() >= axis) own.insert(own.begin() + static_cast<std::ptrdiff_t>(axis), 1);
    if (dims.empty()) dims = own;
    const bool first = &item == &items[0];
    Dims fits = own;
    if (fits.size() == dims.size()) fits[axis] = dims[axis];
    if (fits != dims)
      ctx.reject(fmt::format("its items don't go together along axis {}: {} and {}", axis, to_string(items[0].dims()),
                             to_string(item.dims())));
    if (!first) dims[axis] += own[axis];
    item = item.reshaped(std::move(own));
  }
  std::vector<const Tensor*> pools;
  std::vector<int64_t> sources;
  sources.reserve(static_cast<size_t>(bounded_count(dims)));
  for (const Tensor& item : items) pools.push_back(&item);
  const int64_t outer = element_count(std::span(dims).first(axis)), inner = strides_of(dims)[axis];
  for (int64_t row = 0; row < outer; ++row)
    for (size_t i = 0; i < items.size(); ++i) {
      const int64_t length = items[i].dims()[axis] * inner;
      for (int64_t k = 0; k < length; ++k) sources.push_back(source_of(static_cast<int64_t>(i), row * length + k));
    }
  ctx.set_output(0, pick(pools, dims, sources));
}

void infer_sequence_map(InferContext& ctx) {
  if (ctx.subgraph_facts.size() != 1 || ctx.subgraph_facts[0].size() != ctx.output_count())
    ctx.reject("its body does not give as many values as it has outputs");
  require_sequence_type(ctx, ctx.dtype(0));
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    const DType element = ctx.subgraph_facts[0][i].dtype;
    if (!is_tensor(element)) ctx.reject(fmt::format("its body gives {}, no tensor", to_string(element)));
    ctx.set_output(i, sequence_of(element), Shape());
  }
}

// Runs the body once an item of the first sequence; other sequences give their items, tensors themselves each time.
void eval_sequence_map(EvalContext& ctx) {
  const auto found = ctx.node.attributes.find("body");
  const GraphPtr* body = found == ctx.node.attributes.end() ? nullptr : std::get_if<GraphPtr>(&found->second);
  if (body == nullptr || *body == nullptr) ctx.reject("its subgraph 'body' is missing");
  const size_t count = sequence_items(ctx).size();
  std::vector<std::vector<Tensor>> results(ctx.output_count());
  for (size_t i = 0; i < count; ++i) {
    throw_if_late();
    std::vector<Tensor> inputs;
    for (size_t k = 0; k < ctx.input_count(); ++k) {
      const Tensor& given = ctx.input(k);
      if (is_sequence(given.dtype()) && given.items().size() != count)
        ctx.reject(fmt::format("its sequences have {} and {} items", count, given.items().size()));
      inputs.push_back(is_sequence(given.dtype()) ? given.items()[i] : given);
    }
    std::vector<Tensor> given = ctx.run_subgraph(**body, inputs);
    if (given.size() != results.size()) ctx.reject("its body does not give as many values as it has outputs");
    for (size_t k = 0; k < given.size(); ++k) {
      if (!is_tensor(given[k].dtype()) || (i > 0 && given[k].dtype() != results[k][0].dtype()))
        ctx.reject(fmt::format("its body gives no tensors of one type: output {}", k));
      results[k].push_back(std::move(given[k]));
    }
  }
  for (size_t k = 0; k < results.size(); ++k) {
    const Value& declared = (*body)->value((*body)->outputs()[k]);
    const DType element = results[k].empty() ? declared.dtype : results[k][0].dtype();
    ctx.set_output(k, Tensor::sequence(element, std::move(results[k])));
  }
}

// Of an Optional without an input: what it would hold.
DType optional_type(const Node& node) {
  const auto it = node.attributes.find("type");
  const DType* type = it == node.attributes.end() ? nullptr : std::get_if<DType>(&it->second);
  if (type == nullptr) reject(node, "without an input it needs the attribute 'type'");
  return optional_of(*type);
}

void infer_optional(InferContext& ctx) {
  ctx.set_output(0, ctx.has_input(0) ? optional_of(ctx.dtype(0)) : optional_type(ctx.node), Shape());
}

void eval_optional(EvalContext& ctx) {
  ctx.set_output(0, ctx.has_input(0) ? ctx.input(0) : Tensor::absent(optional_type(ctx.node)));
}

void infer_has_element(InferContext& ctx) { ctx.set_output(0, DType::kBool, Shape(std::vector<Dim>{})); }

void eval_has_element(EvalContext& ctx) {
  ctx.set_output(0, Tensor::scalar(ctx.has_input(0) && !is_optional(ctx.input(0).dtype())));
}

void infer_get_element(InferContext& ctx) {
  const bool optional = is_optional(ctx.dtype(0));
  ctx.set_output(0, present_of(ctx.dtype(0)), optional ? Shape() : ctx.shape(0));
}

void eval_get_element(EvalContext& ctx) {
  if (is_optional(ctx.input(0).dtype())) ctx.reject("its optional is absent; ask OptionalHasElement before");
  ctx.set_output(0, ctx.input(0));
}

constexpr OpSpec kSequenceOps[] = {
    {.name = "SequenceEmpty", .since = 11, .max_inputs = 0, .infer = infer_sequence_empty, .eval = eval_sequence_empty},
    {.name = "SequenceConstruct",
     .since = 11,
     .min_inputs = 1,
     .max_inputs = -1,
     .infer = infer_sequence_construct,
     .eval = eval_sequence_construct},
    {.name = "SequenceAt",
     .since = 11,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_sequence_at,
     .eval = eval_sequence_at,
     .traits = kTakesAny},
    {.name = "SequenceInsert",
     .since = 11,
     .min_inputs = 2,
     .max_inputs = 3,
     .infer = infer_sequence_insert,
     .eval = eval_sequence_insert,
     .traits = kTakesAny},
    {.name = "SequenceErase",
     .since = 11,
     .min_inputs = 1,
     .max_inputs = 2,
     .infer = infer_sequence_erase,
     .eval = eval_sequence_erase,
     .traits = kTakesAny},
    {.name = "SequenceLength",
     .since = 11,
     .min_inputs = 1,
     .infer = infer_sequence_length,
     .eval = eval_sequence_length,
     .traits = kTakesAny},
    {.name = "SplitToSequence",
     .since = 11,
     .min_inputs = 1,
     .max_inputs = 2,
     .infer = infer_split_to_sequence,
     .eval = eval_split_to_sequence},
    {.name = "ConcatFromSequence",
     .since = 11,
     .min_inputs = 1,
     .infer = infer_sequence_at,
     .eval = eval_concat_from_sequence,
     .traits = kTakesAny},
    {.name = "SequenceMap",
     .since = 17,
     .min_inputs = 1,
     .max_inputs = -1,
     .max_outputs = -1,
     .infer = infer_sequence_map,
     .eval = eval_sequence_map,
     .traits = kHasSubgraph | kTakesAny},
    {.name = "Optional", .since = 15, .infer = infer_optional, .eval = eval_optional, .traits = kTakesAny},
    {.name = "OptionalHasElement",
     .since = 15,
     .infer = infer_has_element,
     .eval = eval_has_element,
     .traits = kTakesAny},
    {.name = "OptionalGetElement",
     .since = 15,
     .min_inputs = 1,
     .infer = infer_get_element,
     .eval = eval_get_element,
     .traits = kTakesAny},
};

}  // namespace

std::span<const OpSpec> sequence_ops() { return kSequenceOps; }

}  // namespace slipway
