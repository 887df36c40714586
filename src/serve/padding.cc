// Padding, and the proof that a model does not mind it: made-up sequences alone and filled up must be answered alike.
#include "serve/padding.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "model/infer.h"
#include "serve/batching.h"

namespace slipway {
namespace {

size_t axis_of(const Graph& graph, const std::vector<ValueId>& ids, const std::string& name, int64_t axis,
               const char* what) {
  for (size_t i = 0; i < ids.size(); ++i) {
    const Value& v = graph.value(ids[i]);
    if (v.name != name) continue;
    if (v.shape.has_rank() && axis >= static_cast<int64_t>(v.shape.rank())) break;
    return i;
  }
  fail(ErrorCode::kInvalidArgument, "`pad` in config.yaml names an {} that the model has not: '{}' with an axis {}",
       what, name, axis);
}

}  // namespace

int64_t padded_length(const Padding& padding, int64_t length) {
  const auto found = std::lower_bound(padding.sizes.begin(), padding.sizes.end(), length);
  return found == padding.sizes.end() ? length : *found;
}

int64_t length_of(const Padding& padding, const InferRequest& request) {
  int64_t length = 0;
  for (const WireTensor& t : request.inputs) {
    if (!padding.inputs.contains(t.name)) continue;
    const int64_t own = t.dims.at(static_cast<size_t>(padding.axis));
    if (length != 0 && own != length) return 0;
    length = own;
  }
  return length;
}

Tensor resized(const Tensor& tensor, int64_t axis, int64_t length, double value) {
  const auto at = static_cast<size_t>(axis);
  Dims dims = tensor.dims();
  const int64_t had = dims.at(at);
  if (had == length) return tensor;
  dims[at] = length;
  Tensor result(tensor.dtype(), dims);
  size_t inner = bytes_of(tensor.dtype(), 1);
  int64_t outer = 1;
  for (size_t i = 0; i < dims.size(); ++i)
    if (i < at)
      outer *= dims[i];
    else if (i > at)
      inner *= static_cast<size_t>(dims[i]);
  const Tensor fill = from_doubles(tensor.dtype(), {1}, std::vector<double>{value});
  const size_t from = inner * static_cast<size_t>(had), to = inner * static_cast<size_t>(length);
  std::byte* out = result.mutable_raw();
  for (int64_t i = 0; i < outer; ++i) {
    if (const size_t kept = std::min(from, to); kept > 0)
      std::memcpy(out + static_cast<size_t>(i) * to, tensor.raw() + static_cast<size_t>(i) * from, kept);
    for (size_t b = from; value != 0 && b < to; b += fill.bytes())
      std::memcpy(out + static_cast<size_t>(i) * to + b, fill.raw(), fill.bytes());
  }
  return result;
}

void require_padding_changes_nothing(const Program& program, const Graph& graph, const Padding& padding,
                                     double allowed) {
  for (const auto& [name, value] : padding.inputs) axis_of(graph, graph.inputs(), name, padding.axis, "input");
  std::map<size_t, int64_t> cut;
  for (const auto& [name, axis] : padding.outputs) cut[axis_of(graph, graph.outputs(), name, axis, "output")] = axis;
  const auto session = program.open();
  for (const int64_t size : padding.sizes) {
    const int64_t length = std::max<int64_t>(size - std::max<int64_t>(size / 3, 1), 1);
    std::vector<Tensor> inputs = made_up_inputs(graph, 2, length), alone, filled;
    try {
      alone = session->run(inputs);
      for (size_t i = 0; i < inputs.size(); ++i)
        if (const auto pad = padding.inputs.find(graph.value(graph.inputs()[i]).name); pad != padding.inputs.end())
          inputs[i] = resized(inputs[i], padding.axis, size, pad->second);
      filled = session->run(inputs);
    } catch (const Error& error) {
      fail(ErrorCode::kVerificationFailed,
           "It can't be proven that padding changes nothing; leave `pad` out of config.yaml: {}", error.what());
    }
    for (size_t i = 0; i < alone.size(); ++i) {
      if (const auto axis = cut.find(i); axis != cut.end()) filled[i] = resized(filled[i], axis->second, length);
      if (const double off = relative_difference(alone[i], filled[i]); !(off <= allowed))
        fail(ErrorCode::kVerificationFailed,
             "Padding changes what the model answers; give it a mask, name the outputs to cut back, or leave `pad` out "
             "of config.yaml: output '{}' of a sequence of {} filled up to {} is off by {:.2g} of its range, {:.2g} is "
             "allowed",
             graph.value(graph.outputs()[i]).name, length, size, off, allowed);
    }
  }
}

}  // namespace slipway
