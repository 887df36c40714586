// Einsum. The equation gives every operand axis a label; the result is the sum over all labels that the output lacks of
// the product of the operands. The reference visits every combination of labels once, output labels outermost. The axes
// of an ellipsis get labels of their own, aligned at the right, and broadcast.
#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr int kMaxLabels = 64;
constexpr int kFirstEllipsisLabel = 52;  // below: A–Z, a–z
constexpr int64_t kMaxProducts = int64_t{1} << 36;
constexpr size_t kMaxEllipsis = kMaxLabels - kFirstEllipsisLabel;

// "ab...c" as written: letters, and where the ellipsis stands.
struct Term {
  std::string letters;
  size_t ellipsis = std::string::npos;
};

Term parse_term(const Node& node, std::string_view text) {
  Term term;
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(text[i]))) {
      term.letters += text[i];
    } else if (text.substr(i, 3) == "..." && term.ellipsis == std::string::npos) {
      term.ellipsis = term.letters.size();
      i += 2;
    } else {
      reject(node, fmt::format("the equation has an unexpected character: '{}'", text[i]));
    }
  }
  return term;
}

int label_of(char letter) { return letter <= 'Z' ? letter - 'A' : letter - 'a' + 26; }

struct Equation {
  std::vector<Term> operands;
  Term output;
};

Equation parse_equation(const Node& node) {
  std::string text = node.text("equation", "");
  std::erase(text, ' ');
  Equation equation;
  const size_t arrow = text.find("->");
  std::string_view left = std::string_view(text).substr(0, arrow);
  std::array<int, kFirstEllipsisLabel> seen{};
  bool has_ellipsis = false;
  for (size_t comma = 0; comma != std::string_view::npos;) {
    comma = left.find(',');
    equation.operands.push_back(parse_term(node, left.substr(0, comma)));
    left.remove_prefix(comma == std::string_view::npos ? left.size() : comma + 1);
    for (char c : equation.operands.back().letters) ++seen[static_cast<size_t>(label_of(c))];
    has_ellipsis |= equation.operands.back().ellipsis != std::string::npos;
  }
  if (arrow != std::string::npos) {
    equation.output = parse_term(node, std::string_view(text).substr(arrow + 2));
  } else {
    if (has_ellipsis) equation.output.ellipsis = 0;
    for (int i = 0; i < kFirstEllipsisLabel; ++i)
      if (seen[static_cast<size_t>(i)] == 1)
        equation.output.letters += static_cast<char>(i < 26 ? 'A' + i : 'a' + i - 26);
  }
  for (size_t i = 0; i < equation.output.letters.size(); ++i) {
    const char c = equation.output.letters[i];
    if (seen[static_cast<size_t>(label_of(c))] == 0 || equation.output.letters.find(c) != i)
      reject(node, fmt::format("the output's label '{}' is in no operand or stands twice", c));
  }
  return equation;
}

// The labels of a term's axes when its ellipsis stands for `width` axes.
std::vector<int> labels_of(const Term& term, size_t width) {
  std::vector<int> labels;
  for (size_t i = 0; i <= term.letters.size(); ++i) {
    if (i == term.ellipsis)
      for (size_t e = 0; e < width; ++e) labels.push_back(kMaxLabels - static_cast<int>(width - e));
    if (i < term.letters.size()) labels.push_back(label_of(term.letters[i]));
  }
  return labels;
}

// The labels of an operand of that rank.
std::vector<int> operand_labels(const Node& node, const Term& term, size_t rank) {
  const size_t letters = term.letters.size();
  const bool fits =
      term.ellipsis == std::string::npos ? rank == letters : rank >= letters && rank - letters <= kMaxEllipsis;
  if (!fits) reject(node, fmt::format("the operand '{}' has rank {}", term.letters, rank));
  return labels_of(term, rank - letters);
}

template <typename T>
std::vector<T> contract(const std::vector<std::vector<T>>& operands, const std::vector<Dims>& strides,
                        const Dims& output, const Dims& summed) {
  Dims dims = output;
  dims.insert(dims.end(), summed.begin(), summed.end());
  const int64_t terms = element_count(summed);
  if (element_count(dims) > kMaxProducts)
    fail(ErrorCode::kUnsupported, "An Einsum multiplies too many combinations; split it into MatMuls: {} combinations",
         element_count(dims));
  std::vector<T> y(static_cast<size_t>(bounded_count(output)));
  if (terms == 0) return y;
  Dims at(dims.size(), 0);
  for (T& sum : y)
    for (int64_t t = 0; t < terms; ++t, next_index(at, dims)) {
      T product{1};
      for (size_t k = 0; k < operands.size(); ++k) {
        int64_t offset = 0;
        for (size_t i = 0; i < at.size(); ++i) offset += at[i] * strides[k][i];
        product *= operands[k][static_cast<size_t>(offset)];
      }
      sum += product;
    }
  return y;
}

void eval_einsum(EvalContext& ctx) {
  const Equation equation = parse_equation(ctx.node);
  const size_t count = equation.operands.size();
  if (count != ctx.input_count()) ctx.reject(fmt::format("the equation has {} operands", count));
  std::array<int64_t, kMaxLabels> sizes;
  sizes.fill(-1);
  size_t width = 0;
  std::vector<std::vector<int>> labels;
  for (size_t k = 0; k < count; ++k) {
    const Dims& dims = ctx.input(k).dims();
    labels.push_back(operand_labels(ctx.node, equation.operands[k], dims.size()));
    if (equation.operands[k].ellipsis != std::string::npos)
      width = std::max(width, dims.size() - equation.operands[k].letters.size());
    for (size_t i = 0; i < dims.size(); ++i) {
      int64_t& size = sizes[static_cast<size_t>(labels[k][i])];
      if (size < 0 || size == 1) size = dims[i];
      if (dims[i] != size && dims[i] != 1) ctx.reject(fmt::format("a label stands for sizes {} and {}", size, dims[i]));
    }
  }
  const std::vector<int> output = labels_of(equation.output, width);
  std::vector<int> order = output;
  Dims y_dims, summed;
  for (int label : output) y_dims.push_back(sizes[static_cast<size_t>(label)]);
  for (int label = 0; label < kMaxLabels; ++label) {
    const int64_t size = sizes[static_cast<size_t>(label)];
    if (size < 0 || std::find(output.begin(), output.end(), label) != output.end()) continue;
    order.push_back(label);
    summed.push_back(size);
  }
  std::vector<Dims> strides(count, Dims(order.size(), 0));
  for (size_t k = 0; k < count; ++k) {
    const Dims& dims = ctx.input(k).dims();
    const Dims own = strides_of(dims);
    for (size_t i = 0; i < dims.size(); ++i) {
      const auto place = std::find(order.begin(), order.end(), labels[k][i]) - order.begin();
      if (dims[i] != 1) strides[k][static_cast<size_t>(place)] += own[i];
    }
  }
  const auto run = [&]<typename T>(T) {
    std::vector<std::vector<T>> values;
    for (size_t k = 0; k < count; ++k) {
      const auto read = [&] {
        if constexpr (std::is_same_v<T, double>)
          return to_doubles(ctx.input(k));
        else
          return to_ints(ctx.input(k));
      }();
      values.emplace_back(read.begin(), read.end());
    }
    return contract<T>(values, strides, y_dims, summed);
  };
  const DType dtype = ctx.input(0).dtype();
  if (is_integer(dtype)) {
    const std::vector<uint64_t> y = run(uint64_t{});
    ctx.set_output(0, cast(Tensor::of<int64_t>(y_dims, std::vector<int64_t>(y.begin(), y.end())), dtype));
  } else {
    ctx.set_output(0, from_doubles(dtype, y_dims, run(double{})));
  }
}

void infer_einsum(InferContext& ctx) {
  const Equation equation = parse_equation(ctx.node);
  if (equation.operands.size() != ctx.input_count())
    ctx.reject(fmt::format("the equation has {} operands", equation.operands.size()));
  std::array<Dim, kMaxLabels> sizes;
  size_t width = 0;
  bool ranks_known = true;
  for (size_t k = 0; k < ctx.input_count(); ++k) {
    const Shape& x = ctx.shape(k);
    ranks_known &= x.has_rank();
    if (!x.has_rank()) continue;
    const std::vector<int> labels = operand_labels(ctx.node, equation.operands[k], x.rank());
    if (equation.operands[k].ellipsis != std::string::npos)
      width = std::max(width, x.rank() - equation.operands[k].letters.size());
    for (size_t i = 0; i < x.rank(); ++i) {
      Dim& size = sizes[static_cast<size_t>(labels[i])];
      const bool weaker = size.is_unknown() || (size.is_known() && size.value() == 1);
      if (weaker || (x[i].is_known() && x[i].value() != 1)) size = x[i];
    }
  }
  if (!ranks_known && equation.output.ellipsis != std::string::npos) return ctx.set_output(0, ctx.dtype(0), Shape());
  std::vector<Dim> dims;
  for (int label : labels_of(equation.output, width)) dims.push_back(sizes[static_cast<size_t>(label)]);
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
}

// The rows must have one label in all operands that hold them, and the output must have it too.
void rows_of_einsum(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const Equation equation = parse_equation(ctx.node());
  size_t width = 0;
  std::vector<std::vector<int>> labels;
  std::optional<int> rows;
  Extent block;
  for (size_t k = 0; k < ctx.input_count(); ++k) {
    if (!ctx.in.shape(k).has_rank()) return ctx.mixes("an operand's rank is not known");
    labels.push_back(operand_labels(ctx.node(), equation.operands[k], ctx.rank(k)));
    if (equation.operands[k].ellipsis != std::string::npos)
      width = std::max(width, ctx.rank(k) - equation.operands[k].letters.size());
    if (!ctx.is_along(k)) continue;
    const int own = labels[k][ctx.rows(k).axis];
    if (rows && (*rows != own || ctx.rows(k).block != block))
      return ctx.mixes("it multiplies each row with all the others");
    rows = own;
    block = ctx.rows(k).block;
  }
  for (size_t k = 0; k < ctx.input_count(); ++k)
    for (size_t i = 0; i < labels[k].size(); ++i) {
      const bool is_row_axis = ctx.is_along(k) && i == ctx.rows(k).axis;
      if (!ctx.is_along(k) && !ctx.is_independent(k)) return ctx.mixes("an operand depends on the number of rows");
      if (!is_row_axis && labels[k][i] == *rows && ctx.in.shape(k)[i] != Dim(1))
        return ctx.mixes("an operand is not the same for every row");
    }
  const std::vector<int> output = labels_of(equation.output, width);
  const auto at = std::find(output.begin(), output.end(), *rows);
  if (at == output.end()) return ctx.mixes("it sums over the rows");
  ctx.set_along(static_cast<size_t>(at - output.begin()), block);
}

}  // namespace

std::span<const OpSpec> einsum_ops() {
  static constexpr OpSpec kEinsumOps[] = {
      {.name = "Einsum",
       .since = 12,
       .min_inputs = 1,
       .max_inputs = -1,
       .infer = infer_einsum,
       .eval = eval_einsum,
       .rows = rows_of_einsum,
       .traits = kWeighted},
  };
  return kEinsumOps;
}

}  // namespace slipway
