// TfIdfVectorizer: counts of n-grams of a pool in a sequence, or in each row of a matrix. The pool holds all 1-grams,
// then all 2-grams, and so on; ngram_counts says where each length begins. An n-gram may skip elements between its own,
// always equally many; of one element there is nothing to skip.
#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

enum class Weighting { kCounts, kPresence, kBoth };

struct NgramSettings {
  Weighting weighting = Weighting::kCounts;
  int64_t shortest = 0, longest = 0, most_skips = 0, width = 0;
  std::vector<int64_t> starts, columns;
  std::vector<float> weights;
};

NgramSettings ngram_settings(const Node& node) {
  NgramSettings s;
  const std::string mode = node.text("mode", "");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF")
    reject(node, fmt::format("mode is none of TF, IDF and TFIDF: {}", mode));
  s.weighting = mode == "TF" ? Weighting::kCounts : mode == "IDF" ? Weighting::kPresence : Weighting::kBoth;
  s.shortest = node.integer("min_gram_length", 0);
  s.longest = node.integer("max_gram_length", 0);
  s.most_skips = node.integer("max_skip_count", 0);
  s.starts = node.integers("ngram_counts");
  s.columns = node.integers("ngram_indexes");
  s.weights = node.reals("weights");
  if (s.shortest < 1 || s.longest < s.shortest || s.most_skips < 0)
    reject(node,
           fmt::format("n-grams of {} to {} elements that skip {} are none", s.shortest, s.longest, s.most_skips));
  if (!s.weights.empty() && s.weights.size() != s.columns.size())
    reject(node, fmt::format("{} weights for {} n-grams", s.weights.size(), s.columns.size()));
  for (int64_t column : s.columns) {
    if (column < 0) reject(node, fmt::format("an n-gram's column is negative: {}", column));
    s.width = std::max(s.width, column + 1);
  }
  return s;
}

// What the pool's n-grams are called: their number, by their elements.
template <typename T>
std::map<std::vector<T>, size_t> ngrams_of(const Node& node, const NgramSettings& s, const std::vector<T>& pool) {
  std::map<std::vector<T>, size_t> ngrams;
  size_t number = 0;
  for (size_t n = 1; n <= s.starts.size(); ++n) {
    const int64_t begin = s.starts[n - 1], end = n < s.starts.size() ? s.starts[n] : static_cast<int64_t>(pool.size());
    if (begin < 0 || end < begin || end > static_cast<int64_t>(pool.size()) ||
        (end - begin) % static_cast<int64_t>(n) != 0)
      reject(node, fmt::format("the pool's part of {}-grams from {} to {} is none", n, begin, end));
    for (auto at = pool.begin() + begin; at != pool.begin() + end; at += static_cast<std::ptrdiff_t>(n))
      ngrams.emplace(std::vector<T>(at, at + static_cast<std::ptrdiff_t>(n)), number++);
  }
  if (number > s.columns.size()) reject(node, fmt::format("{} n-grams have {} columns", number, s.columns.size()));
  return ngrams;
}

template <typename T>
void count_ngrams(EvalContext& ctx, const NgramSettings& s, const std::vector<T>& pool, const std::vector<T>& values) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 1 && x.rank() != 2) ctx.reject(fmt::format("it takes [C] or [N,C], not {}", to_string(x.dims())));
  const std::map<std::vector<T>, size_t> ngrams = ngrams_of(ctx.node, s, pool);
  const int64_t rows = x.rank() == 2 ? x.dims()[0] : 1, length = x.dims().back();
  Dims dims = x.rank() == 2 ? Dims{rows, s.width} : Dims{s.width};
  Tensor y(DType::kFloat32, dims);
  bounded_count(dims);
  const auto to = y.mutable_values<float>();
  std::vector<T> ngram;
  for (int64_t row = 0; row < rows; ++row) {
    std::set<size_t> found;
    for (int64_t n = s.shortest; n <= std::min(s.longest, length); ++n)
      for (int64_t step = 1; step <= (n == 1 ? 1 : s.most_skips + 1) && (n - 1) * step < length; ++step)
        for (int64_t start = 0; start + (n - 1) * step < length; ++start) {
          ngram.clear();
          for (int64_t i = 0; i < n; ++i) ngram.push_back(values[static_cast<size_t>(row * length + start + i * step)]);
          const auto it = ngrams.find(ngram);
          if (it == ngrams.end()) continue;
          if (s.weighting == Weighting::kPresence && !found.insert(it->second).second) continue;
          const bool weighted = s.weighting != Weighting::kCounts && !s.weights.empty();
          to[static_cast<size_t>(row * s.width + s.columns[it->second])] += weighted ? s.weights[it->second] : 1.0f;
        }
  }
  ctx.set_output(0, std::move(y));
}

void eval_tf_idf(EvalContext& ctx) {
  const NgramSettings s = ngram_settings(ctx.node);
  const auto pool = ctx.node.attributes.find("pool_strings");
  if ((pool != ctx.node.attributes.end()) == ctx.node.has("pool_int64s"))
    ctx.reject("it needs pool_strings or pool_int64s, not both");
  if (pool == ctx.node.attributes.end())
    return count_ngrams(ctx, s, ctx.node.integers("pool_int64s"), to_ints(ctx.input(0)));
  const auto* words = std::get_if<std::vector<std::string>>(&pool->second);
  if (words == nullptr || ctx.input(0).dtype() != DType::kString) ctx.reject("pool_strings needs strings");
  count_ngrams(ctx, s, *words, ctx.input(0).strings());
}

void infer_tf_idf(InferContext& ctx) {
  const NgramSettings s = ngram_settings(ctx.node);
  const Shape& x = ctx.shape(0);
  Shape y;
  if (x.has_rank()) y = x.rank() == 2 ? Shape({x[0], Dim(s.width)}) : Shape({Dim(s.width)});
  ctx.set_output(0, DType::kFloat32, y);
}

constexpr OpSpec kVectorizerOps[] = {
    {.name = "TfIdfVectorizer", .since = 9, .min_inputs = 1, .infer = infer_tf_idf, .eval = eval_tf_idf},
};

}  // namespace

std::span<const OpSpec> vectorizer_ops() { return kVectorizerOps; }

}  // namespace slipway
