// Operators that ONNX Runtime's optimiser fuses (com.microsoft): taken apart again, for this engine fuses in its own
// way. GELU by its error function: D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", 2016; FastGelu is its tanh
// form.
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "model/onnx/rewrites/rewrite.h"

namespace slipway {
namespace {

// `parameters` in the order in which the activation's own operator lists them; missing ones have its defaults.
ValueId activated(Rewrite& r, ValueId x, const std::string& name, const std::vector<float>& parameters) {
  const auto parameter = [&](size_t i, float fallback) { return i < parameters.size() ? parameters[i] : fallback; };
  if (name == "Clip")
    return r.clip(x, parameter(0, std::numeric_limits<float>::lowest()),
                  parameter(1, std::numeric_limits<float>::max()));
  if (name == "Relu" || name == "Tanh" || name == "Sigmoid") return r.add(name, {x});
  if (name == "LeakyRelu") return r.add(name, {x}, {{"alpha", parameter(0, 0.01f)}});
  if (name == "HardSigmoid") return r.add(name, {x}, {{"alpha", parameter(0, 0.2f)}, {"beta", parameter(1, 0.5f)}});
  r.unsupported(fmt::format("its activation is unknown: '{}'", name));
}

void fused_conv(Rewrite& r) {
  ValueId y = r.add("Conv", {r.need(0), r.need(1), r.in(2)}, r.attributes_without({"activation", "activation_params"}));
  if (r.has(3)) y = r.add("Add", {y, r.in(3)});
  const std::string name = r.node.text("activation", "");
  r.finish({name.empty() ? y : activated(r, y, name, r.node.reals("activation_params"))});
}

void fused_gemm(Rewrite& r) {
  std::vector<float> parameters;
  for (const char* each : {"activation_alpha", "activation_beta", "activation_gamma"})
    if (r.node.has(each)) parameters.push_back(r.node.real(each, 0));
  const ValueId y =
      r.add("Gemm", {r.need(0), r.need(1), r.in(2)},
            r.attributes_without({"activation", "activation_alpha", "activation_beta", "activation_gamma"}));
  const std::string name = r.node.text("activation", "");
  r.finish({name.empty() ? y : activated(r, y, name, parameters)});
}

void fused_matmul(Rewrite& r) {
  if (r.is_set("transBatchA") || r.is_set("transBatchB")) r.unsupported("it transposes the batch's axes");
  const ValueId a = r.is_set("transA") ? r.swap_last_two(r.need(0)) : r.need(0);
  const ValueId b = r.is_set("transB") ? r.swap_last_two(r.need(1)) : r.need(1);
  const ValueId y = r.add("MatMul", {a, b});
  const float alpha = r.node.real("alpha", 1.0f);
  r.finish({alpha == 1 ? y : r.add("Mul", {y, r.number(static_cast<double>(alpha), r.need(0))})});
}

void conv_of_channels_last(Rewrite& r) {
  const ValueId x = r.transpose(r.need(0), {0, 3, 1, 2});
  r.finish({r.transpose(r.add("Conv", {x, r.need(1), r.in(2)}, r.node.attributes), {0, 2, 3, 1})});
}

// x / 2 · (1 + erf(x / √2))
ValueId gelu_of(Rewrite& r, ValueId x) {
  if (r.opset >= 20) return r.add("Gelu", {x});
  const ValueId e = r.add("Erf", {r.add("Mul", {x, r.number(1 / std::numbers::sqrt2, x)})});
  return r.add("Mul", {r.add("Mul", {x, r.number(0.5, x)}), r.add("Add", {e, r.number(1, x)})});
}

// x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))
ValueId fast_gelu_of(Rewrite& r, ValueId x) {
  if (r.opset >= 20) return r.add("Gelu", {x}, {{"approximate", std::string("tanh")}});
  const double slope = std::sqrt(2 / std::numbers::pi);
  const ValueId cubic = r.add("Mul", {r.add("Mul", {x, x}), r.number(0.044715 * slope, x)});
  const ValueId inner = r.add("Mul", {x, r.add("Add", {cubic, r.number(slope, x)})});
  const ValueId t = r.add("Tanh", {inner});
  return r.add("Mul", {r.add("Mul", {x, r.number(0.5, x)}), r.add("Add", {t, r.number(1, x)})});
}

void gelu(Rewrite& r) { r.finish({gelu_of(r, r.need(0))}); }
void bias_gelu(Rewrite& r) { r.finish({gelu_of(r, r.add("Add", {r.need(0), r.need(1)}))}); }
void fast_gelu(Rewrite& r) { r.finish({fast_gelu_of(r, r.has(1) ? r.add("Add", {r.need(0), r.in(1)}) : r.need(0))}); }

void quick_gelu(Rewrite& r) {
  const ValueId x = r.need(0);
  const auto alpha = static_cast<double>(r.node.real("alpha", 1.702f));
  r.finish({r.add("Mul", {x, r.add("Sigmoid", {r.add("Mul", {x, r.number(alpha, x)})})})});
}

constexpr RewriteRule kFusedRules[] = {
    {"FusedConv", fused_conv},
    {"FusedGemm", fused_gemm},
    {"FusedMatMul", fused_matmul},
    {"TransposeMatMul", fused_matmul},  // its name before it scaled
    {"NhwcConv", conv_of_channels_last},
    {"Gelu", gelu},
    {"BiasGelu", bias_gelu},
    {"FastGelu", fast_gelu},
    {"QuickGelu", quick_gelu},
};

}  // namespace

std::span<const RewriteRule> fused_rewrites() { return kFusedRules; }

}  // namespace slipway
