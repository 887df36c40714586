#pragma once
// oneDNN behind one small door: only lower/onednn*.cc include this header.
#include <dnnl.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/lower/lower.h"

namespace slipway {

const dnnl::engine& onednn_engine();
dnnl::memory::data_type onednn_type(DType dtype);
dnnl::memory::desc onednn_desc(Layout layout, DType dtype, const Dims& dims);
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

/// Any oneDNN primitive as a Kernel. `residual_input` ≥ 0: that input is added through a sum post-op, so output 0 must
/// hold it first; it is copied there unless both share a buffer.
std::unique_ptr<Kernel> make_dnnl_kernel(dnnl::primitive primitive, std::vector<DnnlArg> args,
                                         std::span<const BlobView> blobs, size_t scratchpad_bytes,
                                         int residual_input = -1);

/// Appends the fused activation (attributes `activation`, `alpha`, `beta`) to the post-ops; false when oneDNN has no
/// such one.
bool append_activation(const Node& node, dnnl::post_ops& ops);

/// `implementation|digest of the packed layout`: enough to find the same implementation again.
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
/// A visitor that stops at the implementation of that variant, and the check that it was found (else kUnsupported).
template <typename PrimitiveDesc>
auto is_variant(const std::string& variant) {
  return [wanted = variant.substr(0, variant.find('|'))](PrimitiveDesc& pd) { return pd.impl_info_str() == wanted; };
}
template <typename PrimitiveDesc>
PrimitiveDesc require_found(PrimitiveDesc pd, const std::string& variant) {
  if (!pd) fail(ErrorCode::kUnsupported, "This oneDNN has no such implementation; build the plan again: {}", variant);
  return pd;
}
void require_layout_digest(const dnnl::memory::desc& packed, const std::string& variant);

/// A constant's bytes in the layout `desc`, from row-major.
Blob reorder_blob(const void* plain, const dnnl::memory::desc& from, const dnnl::memory::desc& to);

/// Turns a dnnl::error into ours; use as `catch (const dnnl::error& e) { translate(e, …); }`.
[[noreturn]] void fail_onednn(const dnnl::error& error, const Node& node);

}  // namespace slipway
