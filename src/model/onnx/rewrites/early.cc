// Experimental operators of the standard domain that early converters (WinML, Caffe2) wrote and ONNX dropped.
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "model/onnx/rewrites/rewrite.h"

namespace slipway {
namespace {

constexpr int64_t kFarthest = std::numeric_limits<int32_t>::max();

double required_real(const Rewrite& r, std::string_view attribute) {
  if (!r.node.has(attribute)) r.reject(fmt::format("its attribute {} is missing", attribute));
  return static_cast<double>(r.node.real(attribute, 0));
}

// x · scale + bias, one a channel of [N, C, H, W].
void image_scaler(Rewrite& r) {
  const std::vector<float> bias = r.node.reals("bias");
  const ValueId x = r.need(0);
  const ValueId scaled = r.add("Mul", {x, r.number(static_cast<double>(r.node.real("scale", 1.0f)), x)});
  if (bias.empty()) return r.finish({scaled});
  r.finish({r.add("Add", {scaled, r.tensor(Tensor::of<float>({static_cast<int64_t>(bias.size()), 1, 1}, bias))})});
}

// `border` is left, top, right, bottom; with a `scale`, height and width, only the first two count.
void crop(Rewrite& r) {
  const std::vector<int64_t> border = r.node.integers("border"), size = r.node.integers("scale");
  if (border.size() != 4 || (!size.empty() && size.size() != 2))
    r.reject(fmt::format("border has {} entries and scale {}", border.size(), size.size()));
  std::vector<int64_t> ends;
  for (const size_t axis : {size_t{0}, size_t{1}}) {
    const int64_t start = border[1 - axis], cut = border[3 - axis];
    if (std::min(start, cut) < 0 || std::max(start, cut) > kFarthest || (!size.empty() && size[axis] > kFarthest))
      r.reject("its border or scale is no place in a picture");
    ends.push_back(!size.empty() ? start + size[axis] : cut == 0 ? kFarthest : -cut);
  }
  const std::vector<int64_t> starts = {border[1], border[0]}, axes = {2, 3};
  if (r.opset < 10)
    return r.finish({r.add("Slice", {r.need(0)}, {{"starts", starts}, {"ends", ends}, {"axes", axes}})});
  r.finish({r.add("Slice", {r.need(0), r.integers(starts), r.integers(ends), r.integers(axes)})});
}

void affine_operator(Rewrite& r) {
  const ValueId x = r.need(0);
  const auto alpha = static_cast<double>(r.node.real("alpha", 1.0f)),
             beta = static_cast<double>(r.node.real("beta", 0.0f));
  r.finish({r.add("Add", {r.add("Mul", {x, r.number(alpha, x)}), r.number(beta, x)})});
}

// alpha · f(beta · x)
void scaled_function(Rewrite& r, std::string_view function) {
  const ValueId x = r.need(0);
  const ValueId inner = r.add("Mul", {x, r.number(required_real(r, "beta"), x)});
  r.finish({r.add("Mul", {r.add(function, {inner}), r.number(required_real(r, "alpha"), x)})});
}
void parametric_softplus(Rewrite& r) { scaled_function(r, "Softplus"); }
void tanh_with_scales(Rewrite& r) { scaled_function(r, "Tanh"); }

constexpr RewriteRule kEarlyRules[] = {
    {"ImageScaler", image_scaler, ""},    {"Crop", crop, ""},
    {"Affine", affine_operator, ""},      {"ParametricSoftplus", parametric_softplus, ""},
    {"ScaledTanh", tanh_with_scales, ""},
};

}  // namespace

std::span<const RewriteRule> early_rewrites() { return kEarlyRules; }

}  // namespace slipway
