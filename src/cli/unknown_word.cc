// A word that no verb takes, and the one that was likely meant.
#include <algorithm>

#include "cli/cli.h"
#include "data/strict_yaml.h"

namespace slipway {
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
  const std::string meant = nearest_name(word, {known.begin(), known.end()}, std::min<size_t>(3, word.size() / 2));
  const std::string hint = meant.empty() ? "" : fmt::format("; did you mean {}?", meant);
  if (option)
    return fmt::format("`{}` has no option {}{} See `{} --help`.", path, word, hint.empty() ? "." : hint, path);
  if (known.empty()) return fmt::format("`{}` takes no '{}' here; see `{} --help`.", path, word, path);
  return fmt::format("`{}` has no verb '{}'{} There are: {}.", path, word, hint.empty() ? "." : hint,
                     fmt::join(known, ", "));
}

}  // namespace slipway
