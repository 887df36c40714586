// The parts of a form. A body is parts between delimiters, "--" and the boundary at a line's start; a part is header
// lines, an empty line and its bytes (RFC 2046, section 5.1.1). What stands before the first delimiter and after the
// last one, which ends in "--", does not count.
#include "serve/http/form_data.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "base/error.h"

namespace slipway {
namespace {

constexpr size_t kMaxFormParts = 64, kMaxPartHeadBytes = 8192, kMaxBoundary = 70;

std::string in_lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

std::string_view without_blanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// The value of `; key=value` or `; key="value"` behind a header's first word.
std::optional<std::string_view> header_parameter(std::string_view header, std::string_view key) {
  for (size_t at = header.find(';'); at != std::string_view::npos;) {
    std::string_view rest = without_blanks(header.substr(at + 1));
    const size_t equals = rest.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const bool wanted = in_lower_case(without_blanks(rest.substr(0, equals))) == key;
    rest = without_blanks(rest.substr(equals + 1));
    const bool quoted = rest.starts_with('"');
    if (quoted) rest.remove_prefix(1);
    const size_t end = std::min(rest.find(quoted ? '"' : ';'), rest.size());
    if (wanted) return quoted ? rest.substr(0, end) : without_blanks(rest.substr(0, end));
    at = rest.find(';', end);
    header = rest;
  }
  return std::nullopt;
}

/// What the header lines say of a part.
FormPart described(std::string_view head) {
  FormPart part;
  for (size_t at = 0; at < head.size();) {
    const size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view line = head.substr(at, end - at);
    if (in_lower_case(line.substr(0, line.find(':'))) == "content-disposition") {
      part.name = header_parameter(line, "name").value_or("");
      part.is_file = header_parameter(line, "filename") || header_parameter(line, "filename*");
    }
    at = end + 2;
  }
  return part;
}

}  // namespace

std::optional<std::vector<FormPart>> form_parts(std::string_view content_type, std::span<const std::byte> body) {
  if (in_lower_case(without_blanks(content_type.substr(0, content_type.find(';')))) != "multipart/form-data")
    return std::nullopt;
  const std::string_view boundary = header_parameter(content_type, "boundary").value_or("");
  if (boundary.empty() || boundary.size() > kMaxBoundary)
    fail(ErrorCode::kInvalidArgument, "A form's Content-Type names its boundary, of 1 to {} characters: '{}'",
         kMaxBoundary, content_type.substr(0, 200));
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  const std::string delimiter = "\r\n--" + std::string(boundary);
  const auto broken = [](const char* what) {
    fail(ErrorCode::kInvalidArgument, "The body is no form; send what `curl -F file=@PICTURE` sends: {}", what);
  };
  std::vector<FormPart> parts;
  size_t at = text.starts_with(std::string_view(delimiter).substr(2)) ? delimiter.size() - 2 : text.find(delimiter);
  if (at == std::string_view::npos) broken("its boundary does not occur");
  if (!text.starts_with(std::string_view(delimiter).substr(2))) at += delimiter.size();
  for (size_t part = 0; !text.substr(at).starts_with("--"); ++part) {
    if (part == kMaxFormParts) broken("it has too many parts");
    const size_t line_end = text.find("\r\n", at);
    if (line_end == std::string_view::npos || !without_blanks(text.substr(at, line_end - at)).empty())
      broken("a boundary's line does not end");
    // From the line's end on, so that a part without header lines has an empty line, too.
    const size_t head_end = text.substr(0, line_end + kMaxPartHeadBytes).find("\r\n\r\n", line_end);
    if (head_end == std::string_view::npos) broken("a part's header does not end");
    const size_t begin = head_end + 4;
    // The empty line may be the one before the next delimiter: an empty part.
    const size_t end = text.find(delimiter, begin - 2);
    if (end == std::string_view::npos) broken("a part does not end");
    FormPart found = described(text.substr(line_end + 2, std::max(head_end, line_end + 2) - line_end - 2));
    found.content = body.subspan(std::min(begin, end), end - std::min(begin, end));
    parts.push_back(found);
    at = end + delimiter.size();
  }
  if (parts.empty()) broken("it has no part");
  return parts;
}

std::span<const std::byte> form_file(const std::vector<FormPart>& parts) {
  const auto file = std::find_if(parts.begin(), parts.end(), [](const FormPart& part) { return part.is_file; });
  return (file == parts.end() ? parts.begin() : file)->content;
}

}  // namespace slipway
