// Operators on strings, which are UTF-8. Patterns are RE2's, whose running time grows with the text alone.
#include <locale.h>
#include <re2/re2.h>
#include <wctype.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>
#include <limits>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"
#include "model/ops/walk.h"

namespace slipway {
namespace {

const std::vector<std::string>& strings_in(const EvalContext& ctx, size_t index) {
  const Tensor& t = ctx.input(index);
  if (t.dtype() != DType::kString) ctx.reject(fmt::format("input {} holds no strings", index));
  return t.strings();
}

void eval_string_concat(EvalContext& ctx) {
  const std::vector<std::string>&left = strings_in(ctx, 0), &right = strings_in(ctx, 1);
  const Dims dims = broadcast_inputs(ctx);
  std::vector<std::string> joined;
  joined.reserve(static_cast<size_t>(bounded_count(dims)));
  const std::array<Dims, 2> strides = {broadcast_strides(ctx.input(0).dims(), dims),
                                       broadcast_strides(ctx.input(1).dims(), dims)};
  const int64_t a_step = dims.empty() ? 0 : strides[0].back(), b_step = dims.empty() ? 0 : strides[1].back();
  walk<2>(dims, strides, [&](int64_t, const std::array<int64_t, 2>& at, int64_t length) {
    for (int64_t i = 0; i < length; ++i)
      joined.push_back(left[static_cast<size_t>(at[0] + i * a_step)] + right[static_cast<size_t>(at[1] + i * b_step)]);
  });
  ctx.set_output(0, Tensor::of_strings(dims, std::move(joined)));
}

constexpr std::string_view kBlanks = " \t\n\v\f\r";

// At runs of blanks, of which none begins or ends the text; what is left after the last split keeps its own.
std::vector<std::string> split_at_blanks(std::string_view text, int64_t most) {
  std::vector<std::string> parts;
  for (size_t at = text.find_first_not_of(kBlanks); at != text.npos;) {
    const size_t end = static_cast<int64_t>(parts.size()) == most ? text.npos : text.find_first_of(kBlanks, at);
    parts.emplace_back(text.substr(at, end - at));
    at = end == text.npos ? end : text.find_first_not_of(kBlanks, end);
  }
  return parts;
}

std::vector<std::string> split_at(std::string_view text, std::string_view delimiter, int64_t most) {
  if (delimiter.empty()) return split_at_blanks(text, most);
  std::vector<std::string> parts;
  while (true) {
    const size_t end = static_cast<int64_t>(parts.size()) == most ? text.npos : text.find(delimiter);
    parts.emplace_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + delimiter.size());
  }
}

void eval_string_split(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::string delimiter = ctx.node.text("delimiter", "");
  const int64_t asked = ctx.node.integer("maxsplit", -1);
  const int64_t most = asked < 0 ? std::numeric_limits<int64_t>::max() : asked;
  std::vector<std::vector<std::string>> split;
  std::vector<int64_t> counts;
  size_t widest = 0;
  for (const std::string& text : strings_in(ctx, 0)) {
    widest = std::max(widest, split.emplace_back(split_at(text, delimiter, most)).size());
    counts.push_back(static_cast<int64_t>(split.back().size()));
  }
  Dims dims = x.dims();
  dims.push_back(static_cast<int64_t>(widest));
  bounded_count(dims);
  std::vector<std::string> parts;
  for (std::vector<std::string>& own : split) {
    own.resize(widest);
    std::move(own.begin(), own.end(), std::back_inserter(parts));
  }
  ctx.set_output(0, Tensor::of_strings(dims, std::move(parts)));
  ctx.set_output(1, Tensor::of<int64_t>(x.dims(), counts));
}

void infer_string_split(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  std::vector<Dim> dims = x.dims();
  dims.emplace_back();
  ctx.set_output(0, DType::kString, x.has_rank() ? Shape(dims) : Shape());
  ctx.set_output(1, DType::kInt64, x);
}

// One character of UTF-8 and its length; a byte that begins none stands for itself (length 0).
struct Character {
  wint_t code;
  size_t length;
};
Character character_at(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  const unsigned first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  if (length == 0) return {first, 0};
  unsigned code = length == 1 ? first : first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {first, 0};
    code = code << 6 | (byte(i) & 0x3f);
  }
  return {code, length};
}

void append_character(std::string& text, unsigned code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
    return;
  }
  const int length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  const unsigned head = 0xf00u >> length & 0xff;
  text += static_cast<char>(head | code >> (6 * (length - 1)));
  for (int i = length - 2; i >= 0; --i) text += static_cast<char>(0x80 | (code >> (6 * i) & 0x3f));
}

enum class LetterCase { kKept, kLower, kUpper };

// The C library's table of Unicode; the locale's own rules (of Turkish, say) are left out.
std::string with_case(std::string_view text, LetterCase to) {
  static const locale_t unicode = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (to == LetterCase::kKept) return std::string(text);
  std::string out;
  while (!text.empty()) {
    const Character c = character_at(text);
    const bool upper = to == LetterCase::kUpper;
    if (c.length == 0)
      out += text[0];
    else if (unicode == nullptr)
      append_character(out, c.code < 0x80 ? static_cast<unsigned>(upper ? std::toupper(static_cast<int>(c.code))
                                                                        : std::tolower(static_cast<int>(c.code)))
                                          : c.code);
    else
      append_character(out, upper ? ::towupper_l(c.code, unicode) : ::towlower_l(c.code, unicode));
    text.remove_prefix(std::max<size_t>(c.length, 1));
  }
  return out;
}

std::vector<std::string> text_list(const Node& node, std::string_view attribute) {
  const auto it = node.attributes.find(attribute);
  if (it == node.attributes.end()) return {};
  if (const auto* list = std::get_if<std::vector<std::string>>(&it->second)) return *list;
  reject(node, fmt::format("attribute '{}' is no list of strings", attribute));
}

void eval_string_normalizer(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 1 && (x.rank() != 2 || x.dims()[0] != 1))
    ctx.reject(fmt::format("it takes [C] or [1,C], not {}", to_string(x.dims())));
  const std::string action = ctx.node.text("case_change_action", "NONE");
  if (action != "NONE" && action != "LOWER" && action != "UPPER")
    ctx.reject(fmt::format("case_change_action is none of NONE, LOWER and UPPER: {}", action));
  const LetterCase shown = action == "LOWER"   ? LetterCase::kLower
                           : action == "UPPER" ? LetterCase::kUpper
                                               : LetterCase::kKept;
  const LetterCase compared = ctx.node.integer("is_case_sensitive", 0) != 0 ? LetterCase::kKept : LetterCase::kLower;
  std::vector<std::string> stopwords = text_list(ctx.node, "stopwords"), kept;
  for (std::string& word : stopwords) word = with_case(word, compared);
  std::sort(stopwords.begin(), stopwords.end());
  for (const std::string& text : strings_in(ctx, 0))
    if (!std::binary_search(stopwords.begin(), stopwords.end(), with_case(text, compared)))
      kept.push_back(with_case(text, shown));
  if (kept.empty()) kept.emplace_back();
  const auto count = static_cast<int64_t>(kept.size());
  ctx.set_output(0, Tensor::of_strings(x.rank() == 1 ? Dims{count} : Dims{1, count}, std::move(kept)));
}

void infer_string_normalizer(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  if (x.has_rank() && x.rank() != 1 && x.rank() != 2)
    ctx.reject(fmt::format("it takes [C] or [1,C], not {}", to_string(x)));
  Shape y = x.rank() == 2 ? Shape({Dim(1), Dim()}) : x.has_rank() ? Shape::with_rank(1) : Shape();
  if (x.has_rank() && !ctx.node.has("stopwords") && x[x.rank() - 1].is_known() && x[x.rank() - 1].value() > 0)
    y[x.rank() - 1] = x[x.rank() - 1];
  ctx.set_output(0, DType::kString, y);
}

void eval_regex_full_match(EvalContext& ctx) {
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 pattern(ctx.node.text("pattern", ""), options);
  if (!pattern.ok()) ctx.reject(fmt::format("its pattern is not RE2's: {}", pattern.error()));
  const std::vector<std::string>& texts = strings_in(ctx, 0);
  Tensor y(DType::kBool, ctx.input(0).dims());
  const auto to = y.mutable_values<bool>();
  for (size_t i = 0; i < texts.size(); ++i) to[i] = RE2::FullMatch(texts[i], pattern);
  ctx.set_output(0, std::move(y));
}

void infer_matches(InferContext& ctx) { ctx.set_output(0, DType::kBool, ctx.shape(0)); }

constexpr OpSpec kStringOps[] = {
    {.name = "StringConcat",
     .since = 20,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_broadcast,
     .eval = eval_string_concat,
     .traits = kElementwise},
    {.name = "StringSplit",
     .since = 20,
     .min_inputs = 1,
     .max_outputs = 2,
     .infer = infer_string_split,
     .eval = eval_string_split},
    {.name = "StringNormalizer",
     .since = 10,
     .min_inputs = 1,
     .infer = infer_string_normalizer,
     .eval = eval_string_normalizer},
    {.name = "RegexFullMatch",
     .since = 20,
     .min_inputs = 1,
     .infer = infer_matches,
     .eval = eval_regex_full_match,
     .traits = kElementwise},
};

}  // namespace

std::span<const OpSpec> string_ops() { return kStringOps; }

}  // namespace slipway
