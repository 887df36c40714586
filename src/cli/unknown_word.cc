// A word that no verb takes, and the one that was likely meant.
#include <algorithm>
#include <numeric>

#include "cli/cli.h"

namespace slipway {
namespace {

constexpr size_t kMaxSlips = 3;

/// Characters to insert, delete or replace, two swapped neighbours counting as one (optimal string alignment; Boytsov,
/// "Indexing methods for approximate dictionary searching", 2011, 2.2).
size_t slips(const std::string& a, const std::string& b) {
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  size_t least = std::min(kMaxSlips, word.size() / 2) + 1;
  std::string best;
  for (const std::string& name : known)
    if (const size_t n = slips(word, name); n < least) least = n, best = name;
  return best;
}

}  // namespace

std::string unknown_word(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(true);
  if (left.empty()) return {};
  const CLI::App* verb = &app;
  std::string path = app.get_name();
  for (auto parsed = verb->get_subcommands(); !parsed.empty(); parsed = verb->get_subcommands()) {
    verb = parsed.front();
    path += " " + verb->get_name();
  }
  const std::string word = left[0].substr(0, left[0].find('='));
  const bool option = word.starts_with('-');
  std::vector<std::string> known;
  if (option) {
    for (const CLI::Option* o : verb->get_options())
      for (const std::string& name : o->get_lnames()) known.push_back("--" + name);
  } else {
    for (const CLI::App* inner : verb->get_subcommands({}))
      if (!inner->get_group().empty()) known.push_back(inner->get_name());
  }
  const std::string meant = nearest(word, known);
  const std::string hint = meant.empty() ? "" : fmt::format("; did you mean {}?", meant);
  if (option)
    return fmt::format("`{}` has no option {}{} See `{} --help`.", path, word, hint.empty() ? "." : hint, path);
  if (known.empty()) return fmt::format("`{}` takes no '{}' here; see `{} --help`.", path, word, path);
  return fmt::format("`{}` has no verb '{}'{} There are: {}.", path, word, hint.empty() ? "." : hint,
                     fmt::join(known, ", "));
}

}  // namespace slipway
