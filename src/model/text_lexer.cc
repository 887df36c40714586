// Tokens of the text form, made by hand: words, numbers, strings, values (%name, %"any name") and single characters.
#include "model/text_lexer.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "model/text_syntax.h"

namespace slipway {

Token Lexer::take() {
  Token taken = std::move(token_);
  advance();
  return taken;
}

void Lexer::reject(std::string_view what) const {
  const auto before = text_.substr(0, std::min(token_.at, text_.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  fail(ErrorCode::kInvalidModel, "The text form of a graph can't be read; line {}: {}{}", line, what,
       token_.kind == Kind::kEnd ? ", not the end" : ", not '" + token_.text.substr(0, 40) + "'");
}

void Lexer::skip_blank() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '#')
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    else if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
      ++at_;
    else
      return;
  }
}

template <typename Accept>
std::string Lexer::take_while(Accept accept) {
  const size_t begin = at_;
  while (at_ < text_.size() && accept(text_[at_])) ++at_;
  return std::string(text_.substr(begin, at_ - begin));
}

void Lexer::advance() {
  skip_blank();
  token_ = {.kind = Kind::kEnd, .text = "", .at = at_};
  if (at_ >= text_.size()) return;
  const char c = text_[at_];
  if (c == '"') {
    token_.text = string();
    token_.kind = Kind::kString;
  } else if (c == '%') {
    ++at_;
    token_.text = current() == '"' ? string() : take_while(is_name_char);
    token_.kind = Kind::kValue;
    if (token_.text.empty()) reject("a value needs a name after %");
  } else if (is_digit(c) || c == '-') {
    token_.text = take_while([](char n) { return is_word_char(n) || n == '-' || n == '+'; });
    token_.kind = Kind::kNumber;
  } else if (is_alpha(c)) {
    token_.text = take_while(is_word_char);
    token_.kind = Kind::kWord;
  } else {
    token_.text = std::string(1, c);
    token_.kind = Kind::kPunctuation;
    ++at_;
  }
}

std::string Lexer::string() {
  std::string out;
  for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) out += text_[at_] == '\\' ? escaped() : text_[at_];
  if (at_ >= text_.size()) reject("a string has no end");
  ++at_;
  return out;
}

char Lexer::escaped() {
  ++at_;
  const char c = current();
  if (c == 'n') return '\n';
  if (c == '"' || c == '\\') return c;
  unsigned code = 0;
  const char* digits = text_.data() + at_ + 1;
  if (c != 'x' || at_ + 2 >= text_.size() || std::from_chars(digits, digits + 2, code, 16).ptr != digits + 2)
    reject("an unknown escape stands in a string (known are \\n, \\\", \\\\ and \\x with two digits)");
  at_ += 2;
  return static_cast<char>(code);
}

}  // namespace slipway
