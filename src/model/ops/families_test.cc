// Every operator against random calls, most of them senseless: whatever a model says, an operator answers with outputs
// or with an Error, and what inference claims holds for what evaluation gives. The seed is fixed and printed.
#include "model/ops/families.h"

#include <limits>
#include <map>
#include <new>

#include "base/random.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

constexpr uint64_t kSeed = 20240229;
constexpr int kCallsPerOperator = 300;

int64_t some_number(Random& random) {
  constexpr int64_t kExtremes[] = {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                                   int64_t{1} << 40, -(int64_t{1} << 33), 1000};
  if (random.below(25) == 0) return kExtremes[random.below(std::size(kExtremes))];
  return static_cast<int64_t>(random.below(6)) - 2;
}

Tensor some_tensor(Random& random) {
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat32, DType::kFloat32, DType::kInt64, DType::kInt64,
                              DType::kInt64,   DType::kInt32,   DType::kUint8,   DType::kInt8,  DType::kBool,
                              DType::kFloat16, DType::kFloat64, DType::kUint64,  DType::kInt4,  DType::kBfloat16};
  Dims dims(random.below(5));
  for (int64_t& d : dims) d = random.below(12) == 0 ? 0 : static_cast<int64_t>(random.below(3)) + 1;
  std::vector<int64_t> values(static_cast<size_t>(element_count(dims)));
  for (int64_t& v : values) v = some_number(random);
  return cast(Tensor::of<int64_t>(dims, values), kTypes[random.below(std::size(kTypes))]);
}

Attributes some_attributes(Random& random) {
  static const std::vector<std::string> kNumbers = {"axis",
                                                    "keepdims",
                                                    "k",
                                                    "blocksize",
                                                    "to",
                                                    "dtype",
                                                    "group",
                                                    "fmod",
                                                    "allowzero",
                                                    "num_outputs",
                                                    "batch_dims",
                                                    "largest",
                                                    "storage_order",
                                                    "ceil_mode",
                                                    "start",
                                                    "end",
                                                    "upper",
                                                    "exclusive",
                                                    "time_axis",
                                                    "antialias",
                                                    "align_corners",
                                                    "transA",
                                                    "transB",
                                                    "block_size",
                                                    "p",
                                                    "size",
                                                    "exclude_outside",
                                                    "noop_with_empty_axes",
                                                    "q_num_heads",
                                                    "kv_num_heads",
                                                    "num_heads",
                                                    "is_causal",
                                                    "qk_matmul_output_mode",
                                                    "rotary_embedding_dim",
                                                    "interleaved",
                                                    "onesided",
                                                    "inverse",
                                                    "ignore_index",
                                                    "output_height",
                                                    "output_width",
                                                    "sampling_ratio",
                                                    "offset_group",
                                                    "saturate",
                                                    "output_dtype",
                                                    "seed"};
  static const std::vector<std::string> kLists = {
      "axes",      "perm",         "split", "starts",         "ends",         "pads",        "strides",
      "dilations", "kernel_shape", "shape", "output_padding", "output_shape", "pooled_shape"};
  static const std::map<std::string, std::vector<std::string>> kTexts = {
      {"mode", {"linear", "cubic", "reflect", "edge", "wrap", "CRD", "nonsense"}},
      {"direction", {"LEFT", "RIGHT"}},
      {"reduction", {"add", "max", "mul", "none", "sum"}},
      {"update_rule", {"linear", "gated", "delta"}},
      {"activation", {"silu", "none", "nonsense"}},
      {"auto_pad", {"SAME_UPPER", "VALID"}},
      {"coordinate_transformation_mode", {"align_corners", "asymmetric", "tf_crop_and_resize"}}};
  Attributes attributes;
  for (const std::string& name : kNumbers)
    if (random.below(4) == 0) attributes[name] = some_number(random);
  for (const std::string& name : kLists) {
    if (random.below(4) != 0) continue;
    std::vector<int64_t> list(random.below(5));
    for (int64_t& v : list) v = some_number(random);
    attributes[name] = list;
  }
  for (const auto& [name, texts] : kTexts)
    if (random.below(4) == 0) attributes[name] = texts[random.below(texts.size())];
  if (random.below(4) == 0) attributes["scales"] = std::vector<float>{1.0f, 2.0f};
  return attributes;
}

std::string describe(const OpCall& call, const std::vector<Tensor>& inputs) {
  std::string text = fmt::format("{} at opset {}:", call.op, call.opset);
  for (const Tensor& t : inputs) text += fmt::format(" {}{}", to_string(t.dtype()), to_string(t.dims()));
  for (const auto& [name, value] : call.attributes) {
    text += " " + name;
    if (const auto* number = std::get_if<int64_t>(&value)) text += fmt::format("={}", *number);
    if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) text += "=" + to_string(Shape::of(*list));
    if (const auto* word = std::get_if<std::string>(&value)) text += "=" + *word;
  }
  return text;
}

// Empty, or how the claim is wrong.
std::string contradiction(const ValueFacts& claim, const Tensor& truth) {
  if (claim.dtype != DType::kUndefined && merge_types(claim.dtype, truth.dtype()) != claim.dtype) return "type";
  if (!claim.shape.has_rank()) return "";
  if (claim.shape.rank() != truth.dims().size())
    return fmt::format("inferred {}, is {}", to_string(claim.shape), to_string(truth.dims()));
  for (size_t i = 0; i < truth.dims().size(); ++i)
    if (claim.shape[i].is_known() && claim.shape[i].value() != truth.dims()[i])
      return fmt::format("inferred {}, is {}", to_string(claim.shape), to_string(truth.dims()));
  if (!claim.dims) return "";
  const std::vector<int64_t> contents = to_ints(truth);
  if (contents.size() != claim.dims->size()) return "number of elements";
  for (size_t i = 0; i < contents.size(); ++i)
    if ((*claim.dims)[i].is_known() && (*claim.dims)[i].value() != contents[i]) return "contents";
  return "";
}

TEST(Families, OperatorsAreUniqueAndComplete) {
  std::map<std::pair<std::string_view, std::string_view>, const OpSpec*> last;
  for (const OpSpec* spec : all_ops()) {
    EXPECT_NE(spec->infer, nullptr) << spec->name;
    EXPECT_NE(spec->eval, nullptr) << spec->name;
    EXPECT_LE(spec->since, spec->until) << spec->name;
    for (int opset = spec->since; opset <= std::min(spec->until, 27); ++opset)
      EXPECT_EQ(find_op(spec->domain, spec->name, opset), spec) << spec->name << " at " << opset;
  }
}

TEST(Families, SurviveSenselessCalls) {
  Random random(kSeed);
  int ran = 0, calls = 0;
  for (const OpSpec* spec : all_ops()) {
    if (!spec->domain.empty() || spec->has(kHasSubgraph)) continue;
    for (int i = 0; i < kCallsPerOperator; ++i, ++calls) {
      OpCall call{.op = std::string(spec->name),
                  .opset = std::min(spec->until, std::max(spec->since, random.below(2) == 0 ? 12 : 20)),
                  .attributes = some_attributes(random),
                  .outputs = 1 + random.below(2)};
      if (spec->max_outputs >= 0) call.outputs = std::min(call.outputs, static_cast<size_t>(spec->max_outputs));
      const int most = spec->max_inputs < 0 ? spec->min_inputs + 2 : spec->max_inputs;
      const auto count = static_cast<size_t>(spec->min_inputs) +
                         random.below(static_cast<uint64_t>(std::max(1, most - spec->min_inputs + 1)));
      std::vector<Tensor> inputs;
      std::vector<ValueFacts> claims;
      for (size_t k = 0; k < count; ++k) {
        inputs.push_back(k > 0 && random.below(3) == 0 ? inputs[0] : some_tensor(random));
        claims.push_back(facts(inputs[k].dtype(), Shape::of(inputs[k].dims())));
        if (random.below(2) == 0) claims[k].constant = std::make_shared<const Tensor>(inputs[k]);
      }
      std::vector<ValueFacts> claimed;
      std::string refusal;
      try {
        claimed = call.infer(claims);
      } catch (const Error& error) {
        refusal = error.what();
      }
      std::vector<Tensor> results;
      try {
        results = call.run(inputs);
      } catch (const Error&) {
        continue;
      } catch (const std::bad_alloc&) {
        continue;
      }
      ++ran;
      EXPECT_EQ(refusal, "") << describe(call, inputs);
      for (size_t k = 0; k < claimed.size() && k < results.size(); ++k) {
        if (!results[k].defined()) continue;
        EXPECT_EQ(contradiction(claimed[k], results[k]), "") << describe(call, inputs);
      }
    }
  }
  fmt::print("seed {}: {} of {} senseless calls ran\n", kSeed, ran, calls);
  EXPECT_GT(ran, calls / 50);
}

}  // namespace
}  // namespace slipway
