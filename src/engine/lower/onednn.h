#pragma once
// oneDNN behind one small door: only lower/onednn*.cc include this header.
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/kernels/elementwise.h"
#include "engine/lower/lower.h"
#include "model/ops/window.h"

namespace slipway {

const dnnl::engine& onednn_engine();
dnnl::memory::data_type onednn_type(DType dtype);
/// Descriptors of an image of floats and of what a convolution or pool makes of it. To oneDNN's primitive cache
/// descriptors are equal whose strides differ where the size is 1, and it hands back whichever was asked for first; so
/// there is one descriptor for each arrangement in memory, whatever its layout's name. Where row-major and
/// channels-last are the same bytes, the operand is described as the other one lies, as implementations want both
/// alike.
struct ImageDescs {
  dnnl::memory::desc in, out;
};
ImageDescs onednn_images(Layout in, Layout out, const Dims& x, const Dims& y);
/// SSE instructions take memory operands at multiples of 16 bytes only, where no pixels but those of blocks must lie.
bool onednn_needs_aligned_pixels(std::string_view implementation, Layout in, Layout out);
/// Whether sizes, steps and byte offsets fit the 32 bits that oneDNN's kernels count in.
bool onednn_can_count(const Window& window, Layout in, Layout out, const Dims& x, const Dims& y);
/// Row-major, whatever the rank.
dnnl::memory::desc onednn_plain(DType dtype, const Dims& dims);

/// Where an argument of a primitive comes from.
struct DnnlArg {
  enum From { kInput, kOutput, kBlob, kScratchpad };
  int id;
  From from;
  int index;  ///< of the input, output or blob
  dnnl::memory::desc desc;
};

/// How a kernel runs faithfully. A fused activation is left to a primitive with the same operands but without it, made
/// at the first need, and then applied in place by our own kernel. Padded channels of the output are zero after
/// that: their weights are zero too, which is no help once infinities are multiplied by them.
struct Faithful {
  Layout layout;  ///< of the output
  Dims dims;
  Unary activation = {};
  std::function<dnnl::primitive()> make = {};
  dnnl::memory::desc scratchpad = {};
};
/// `plain`: of the primitive without the node's activation.
template <typename Primitive>
void leave_activation_to(const typename Primitive::primitive_desc& plain, const Node& node, Faithful& faithful) {
  faithful.activation = fused_activation(node.text("activation", ""), node.real("alpha", 0), node.real("beta", 0));
  faithful.make = [plain] { return Primitive(plain); };
  faithful.scratchpad = plain.scratchpad_desc();
}

/// Any oneDNN primitive as a Kernel. `residual_input` ≥ 0: that input is added through a sum post-op, so output 0 must
/// hold it first; it is copied there unless both share a buffer.
std::unique_ptr<Kernel> make_dnnl_kernel(dnnl::primitive primitive, std::vector<DnnlArg> args,
                                         std::span<const BlobView> blobs, size_t scratchpad_bytes,
                                         int residual_input = -1, std::optional<Faithful> faithful = std::nullopt);

/// Appends the fused activation (attributes `activation`, `alpha`, `beta`) to the post-ops; false when oneDNN has no
/// such one.
bool append_activation(const Node& node, dnnl::post_ops& ops);

/// `implementation|digest of the packed layout`: enough to find the same implementation again. Two implementations of
/// one name may pack differently.
std::string onednn_variant(const std::string& implementation, const dnnl::memory::desc& packed);
/// Calls visit(primitive_desc) for every implementation, oneDNN's favourite first, until it returns true; returns that
/// one, or an empty descriptor. The iterator reads `desc` to the end, so it must live as long (oneDNN 2.6 keeps a
/// pointer to it).
template <typename Primitive, typename Visit>
typename Primitive::primitive_desc visit_implementations(const typename Primitive::desc& desc,
                                                         const dnnl::primitive_attr& attr, const Visit& visit) {
  typename Primitive::primitive_desc pd(desc, attr, onednn_engine());
  while (!visit(pd))
    if (!pd.next_impl()) return {};
  return pd;
}
/// Fails with kUnsupported when the implementation of that variant was not found.
template <typename PrimitiveDesc>
PrimitiveDesc require_found(PrimitiveDesc pd, const std::string& variant) {
  if (!pd) fail(ErrorCode::kUnsupported, "This oneDNN has no such implementation; build the plan again: {}", variant);
  return pd;
}

/// A constant's bytes in the layout `desc`, from row-major.
Blob reorder_blob(const void* plain, const dnnl::memory::desc& from, const dnnl::memory::desc& to);

/// Turns a dnnl::error into ours; use as `catch (const dnnl::error& e) { translate(e, …); }`.
[[noreturn]] void fail_onednn(const dnnl::error& error, const Node& node);

}  // namespace slipway
