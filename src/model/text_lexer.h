#pragma once
// Internal to the text form: its tokens.
#include <cstddef>
#include <string>
#include <string_view>

namespace slipway {

enum class Kind { kEnd, kWord, kNumber, kString, kValue, kPunctuation };

struct Token {
  Kind kind = Kind::kEnd;
  std::string text;  ///< without quotes, escapes and %
  size_t at = 0;
};

/// One token of look-ahead over the text, which must outlive it.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { advance(); }
  const Token& peek() const { return token_; }
  Token take();
  /// Fails with kInvalidModel naming the line of the next token.
  [[noreturn]] void reject(std::string_view what) const;

 private:
  char current() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_blank();
  void advance();
  std::string string();
  char escaped();
  template <typename Accept>
  std::string take_while(Accept accept);

  std::string_view text_;
  size_t at_ = 0;
  Token token_;
};

}  // namespace slipway
