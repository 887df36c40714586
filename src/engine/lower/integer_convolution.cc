// QConv and QGemm through our INT8 kernels: every row of the kernel table is a candidate, and its proof of exactness
// decides whether it is accepted. oneDNN's INT8 forms stand in the list with the reason why they are rejected.
#include <charconv>
#include <optional>

#include "base/cpu.h"
#include "base/error.h"
#include "engine/kernels/qconv.h"
#include "engine/lower/integer.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr size_t kWeights = 1, kBias = 2, kResidual = 3;

bool is_gemm(const Node& node) { return node.is_fused("QGemm"); }

QConvSpec spec_of(const LowerContext& c, CodeRange range) {
  const Node& n = c.node;
  const Dims x = c.input_dims(0), w = c.input_dims(kWeights), y = c.output_dims();
  QConvSpec spec;
  QConvShape& s = spec.shape;
  if (is_gemm(n)) {
    s.n = element_count(std::span(x).first(x.size() - 1));
    s.c = x.back();
    s.oc = w[0];
  } else {
    const Window window = conv_window(n, x, w);
    s = {.n = x[0],
         .h = x[2],
         .w = x[3],
         .c = x[1],
         .oh = y[2],
         .ow = y[3],
         .oc = y[1],
         .kh = w[2],
         .kw = w[3],
         .stride_h = window.strides[0],
         .stride_w = window.strides[1],
         .pad_top = window.pads_begin[0],
         .pad_left = window.pads_begin[1],
         .dilation_h = window.dilations[0],
         .dilation_w = window.dilations[1],
         .groups = n.integer("group", 1)};
  }
  spec.x = input_encoding(c, 0, n.integer("x_zero_point", 0), range);
  QConvEpilogue& e = spec.epilogue;
  e.output = c.output_dtype() == DType::kFloat32 ? QConvOutput::kFloat : QConvOutput::kInt8;
  if (e.output == QConvOutput::kInt8) e.y = output_encoding(n);
  e.has_mid = n.has("mid_multiplier");
  if (e.has_mid) {
    e.mid_zero_point = static_cast<int32_t>(n.integer("mid_zero_point", 0));
    e.mid_lo = static_cast<int32_t>(n.integer("mid_lo", -128));
    e.mid_hi = static_cast<int32_t>(n.integer("mid_hi", 127));
    e.mid_multiplier = n.real("mid_multiplier", 1);
  }
  e.has_residual = c.has_input(kResidual);
  if (e.has_residual) {
    const bool u8 = c.input_dtype(kResidual) == DType::kUint8;
    e.residual = {u8 ? Int8Type::kU8 : Int8Type::kS8, static_cast<int32_t>(n.integer("residual_zero_point", 0)),
                  u8 ? 0 : -128, u8 ? 255 : 127};
    e.residual_multiplier = n.real("residual_multiplier", 1);
  }
  return spec;
}

// "name|lo|hi"
std::string variant_of(const char* name, CodeRange range) { return fmt::format("{}|{}|{}", name, range.lo, range.hi); }

struct Variant {
  std::string name;
  CodeRange range;
};
Variant parse_variant(const std::string& text) {
  const size_t a = text.find('|'), b = text.find('|', a + 1);
  Variant v{text.substr(0, a), {0, 0}};
  if (b == std::string::npos)
    fail(ErrorCode::kInvalidModel, "A plan's tactic is damaged; build the plan again: '{}'", text);
  std::from_chars(text.data() + a + 1, text.data() + b, v.range.lo);
  std::from_chars(text.data() + b + 1, text.data() + text.size(), v.range.hi);
  return v;
}

// A ReLU or Clip on a float result is applied after the kernel.
struct FloatClamp {
  bool active = false;
  float lo = 0, hi = 0;
};
FloatClamp clamp_of(const Node& n) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const FloatClamp clamp{n.has("f_lo") || n.has("f_hi"), n.real("f_lo", -kInf), n.real("f_hi", kInf)};
  return clamp;
}

class QConvKernel : public Kernel {
 public:
  QConvKernel(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs)
      : threads_(c.threads) {
    const Variant v = parse_variant(candidate.variant);
    spec_ = spec_of(c, v.range);
    tactic_ = find_qconv_tactic(v.name);
    if (tactic_ == nullptr || !isa_available(tactic_->isa))
      fail(ErrorCode::kUnsupported, "This CPU or program lacks the plan's kernel; build the plan again: {}", v.name);
    if (blobs.size() != 1)
      fail(ErrorCode::kInvalidModel, "A plan's packed weights are missing; build the plan again: {}", c.node.label());
    if (const std::string why = tactic_->check(spec_, blobs[0]); !why.empty())
      fail(ErrorCode::kInvalidModel, "A plan's packed weights do not fit {}; build the plan again: {}", c.node.label(),
           why);
    packed_ = blobs[0].data();
    clamp_ = clamp_of(c.node);
    if (c.output_dtype() == DType::kFloat32) floats_ = element_count(c.output_dims());
  }

  size_t scratch_bytes() const override { return tactic_->scratch_bytes(spec_, threads_); }

  void run(const KernelArgs& args) const override {
    const void* residual = spec_.epilogue.has_residual ? args.inputs[kResidual] : nullptr;
    tactic_->run(spec_, packed_, args.inputs[0], residual, args.outputs[0], args.scratch, args.threads);
    if (!clamp_.active || floats_ == 0) return;
    auto* y = static_cast<float*>(args.outputs[0]);
    for (int64_t i = 0; i < floats_; ++i) y[i] = std::min(std::max(y[i], clamp_.lo), clamp_.hi);
  }

 private:
  QConvSpec spec_;
  const QConvTactic* tactic_ = nullptr;
  const std::byte* packed_ = nullptr;
  FloatClamp clamp_;
  int64_t floats_ = 0;
  int threads_;
};

struct Factors {
  explicit Factors(const Node& node) : multiplier(node.reals("multiplier")), addend(node.reals("addend")) {}
  bool fit(int64_t channels) const {
    const auto count = static_cast<size_t>(channels);
    return multiplier.size() == count && (addend.empty() || addend.size() == count);
  }
  std::vector<float> multiplier, addend;
};

QConvWeights weights_of(const LowerContext& c, const Factors& factors) {
  return {c.constant(kWeights).values<int8_t>().data(),
          c.has_input(kBias) ? c.constant(kBias).values<int32_t>().data() : nullptr, factors.multiplier.data(),
          factors.addend.empty() ? nullptr : factors.addend.data()};
}

bool has_no_elements(const LowerContext& c) {
  return element_count(c.input_dims(0)) == 0 || element_count(c.output_dims()) == 0;
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  const Node& n = c.node;
  if (!n.is_fused("QConv") && !is_gemm(n)) return;
  const auto reject = [&](std::string tactic, std::string why) {
    candidates.push_back({.tactic = "int8_conv", .variant = std::move(tactic), .rejected = std::move(why)});
  };
  if (!c.is_constant(kWeights) || (c.has_input(kBias) && !c.is_constant(kBias)))
    return reject("", "weights are no constants");
  if (c.input_dims(kWeights).size() != (is_gemm(n) ? 2u : 4u)) return reject("", "not two spatial dimensions");
  if (has_no_elements(c)) return reject("", "an empty tensor");
  const CodeRange range = code_range(c.graph, n.inputs[0]);
  const QConvSpec spec = spec_of(c, range);
  const Factors factors(n);
  if (!factors.fit(spec.shape.oc)) return reject("", "one multiplier, and one addend, an output channel is needed");
  bool accepted = false;
  for (const QConvTactic& tactic : qconv_tactics()) {
    if (accepted && tactic.isa == Isa::kBaseline) {
      reject(tactic.name, "slower by construction: the oracle of the others");
      continue;
    }
    if (!isa_available(tactic.isa)) {
      reject(tactic.name, fmt::format("this CPU lacks {}", isa_name(tactic.isa)));
      continue;
    }
    if (std::string why = tactic.reject(spec, weights_of(c, factors)); !why.empty()) {
      reject(tactic.name, std::move(why));
      continue;
    }
    accepted = true;
    Candidate candidate{.tactic = "int8_conv", .variant = variant_of(tactic.name, range)};
    candidate.inputs.assign(n.inputs.size(), Layout::kPlain);
    candidate.outputs = {Layout::kPlain};
    if (!is_gemm(n)) {
      candidate.inputs[0] = Layout::kNhwc;
      candidate.outputs = {Layout::kNhwc};
      if (c.has_input(kResidual)) candidate.inputs[kResidual] = Layout::kNhwc;
    }
    if (c.has_input(kResidual) && c.output_dtype() != DType::kFloat32) candidate.inplace_input = kResidual;
    candidates.push_back(std::move(candidate));
  }
  reject("onednn winograd", "INT8 Winograd rounds intermediate sums: not exact");
  if (!cpu_features().avx512_vnni)
    reject("onednn",
           "without VNNI oneDNN multiplies u8 by s8 in 16 bits, which saturates or halves the weights: not exact");
  else
    reject("onednn",
           "its order of requantisation differs from the reference's: not exact with a residual or zero points");
}

std::vector<Blob> pack(const LowerContext& c, const Candidate& candidate) {
  const Variant v = parse_variant(candidate.variant);
  QConvPacked packed = find_qconv_tactic(v.name)->pack(spec_of(c, v.range), weights_of(c, Factors(c.node)));
  std::vector<Blob> blobs;
  blobs.push_back({std::move(packed.data), packed.bytes});
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  if ((!c.node.is_fused("QConv") && !is_gemm(c.node)) || (!is_gemm(c.node) && c.input_dims(0).size() != 4) ||
      has_no_elements(c))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  return std::make_unique<QConvKernel>(c, candidate, blobs);
}

}  // namespace

Tactic integer_convolution() {
  return {"int8_conv", propose, pack, create, [](const Node&, size_t i) { return i == kWeights || i == kBias; }};
}

}  // namespace slipway
