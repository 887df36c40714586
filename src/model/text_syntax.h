#pragma once
// Internal to the text form: what its writer and its parser must agree on.
#include <algorithm>
#include <cstdint>
#include <string_view>

namespace slipway {

inline constexpr uint16_t kHalfNan = 0x7e00, kBfloat16Nan = 0x7fc0;

inline bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_word_char(char c) { return is_alpha(c) || is_digit(c) || c == '.'; }
inline bool is_name_char(char c) { return is_word_char(c) || c == '/' || c == ':' || c == '-'; }

/// Written without quotes: operators, attributes, symbols.
inline bool is_word(std::string_view s) {
  return !s.empty() && is_alpha(s[0]) && s != "_" && std::all_of(s.begin(), s.end(), is_word_char);
}
/// Written without quotes after %.
inline bool is_value_name(std::string_view s) { return !s.empty() && std::all_of(s.begin(), s.end(), is_name_char); }

}  // namespace slipway
