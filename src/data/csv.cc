// CSV files of labels (RFC 4180 without line breaks inside quotes).
#include "data/csv.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

size_t count_outside_quotes(std::string_view line, char wanted) {
  bool quoted = false;
  size_t count = 0;
  for (const char c : line) {
    quoted ^= c == '"';
    count += c == wanted && !quoted ? 1 : 0;
  }
  return count;
}

char delimiter_of(const std::vector<std::string_view>& lines) {
  for (const char delimiter : {',', ';', '\t'}) {
    const size_t count = count_outside_quotes(lines.front(), delimiter);
    const auto same = [&](std::string_view line) { return count_outside_quotes(line, delimiter) == count; };
    if (count > 0 && std::all_of(lines.begin(), lines.end(), same)) return delimiter;
  }
  return ',';
}

std::vector<std::string> parse_line(std::string_view line, char delimiter, size_t number, const std::string& name) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"')
      cells.back() += line[i++];
    else if (c == '"')
      quoted = !quoted;
    else if (c == delimiter && !quoted)
      cells.emplace_back();
    else
      cells.back() += c;
  }
  if (quoted) fail(ErrorCode::kInvalidArgument, "A quote is not closed; add the second one: {}:{}", name, number);
  return cells;
}

/// The label's column. `header` is null when the file has none.
size_t column_index(const CsvRows& rows, const std::string& column, bool has_header, const std::string& name) {
  const size_t width = rows.front().size();
  if (column.empty()) return width > 1 ? 1 : 0;
  size_t number = 0;
  const auto [end, error] = std::from_chars(column.data(), column.data() + column.size(), number);
  if (error == std::errc() && end == column.data() + column.size() && number >= 1 && number <= width) return number - 1;
  for (size_t i = 0; has_header && i < width; ++i)
    if (rows.front()[i] == column) return i;
  fail(ErrorCode::kInvalidArgument,
       "The CSV file has no such column; give its header or its number, from 1 to {}: '{}' in {}", width, column, name);
}

const std::string& cell(const CsvRows& rows, size_t row, size_t column, const std::string& name) {
  if (column >= rows[row].size() || rows[row][column].empty())
    fail(ErrorCode::kInvalidArgument, "A row of the CSV file lacks its cell in column {}: row {} of {}", column + 1,
         row + 1, name);
  return rows[row][column];
}

}  // namespace

CsvRows parse_csv(const std::string& text, const std::string& name) {
  std::vector<std::string_view> lines;
  std::vector<size_t> numbers;
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  for (size_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    lines.push_back(line);
    numbers.push_back(number);
  }
  if (lines.empty()) fail(ErrorCode::kInvalidArgument, "The CSV file is empty; write a row for each sample: {}", name);
  const char delimiter = delimiter_of(lines);
  CsvRows rows;
  for (size_t i = 0; i < lines.size(); ++i) rows.push_back(parse_line(lines[i], delimiter, numbers[i], name));
  return rows;
}

CsvRows read_csv(const std::string& path) { return parse_csv(read_text_file(path), path); }

std::vector<std::string> label_list(const CsvRows& rows, const std::string& column, int64_t count,
                                    const std::string& name) {
  const bool has_header = static_cast<int64_t>(rows.size()) == count + 1;
  const size_t index = column_index(rows, column, has_header, name);
  std::vector<std::string> labels;
  for (size_t i = has_header ? 1 : 0; i < rows.size(); ++i) labels.push_back(cell(rows, i, index, name));
  return labels;
}

bool parse_number(const std::string& cell, float& value) {
  const size_t begin = std::min(cell.find_first_not_of(' '), cell.size());
  const auto [end, error] = std::from_chars(cell.data() + begin, cell.data() + cell.size(), value);
  return error == std::errc() && cell.find_first_not_of(' ', static_cast<size_t>(end - cell.data())) == cell.npos;
}

Tensor numeric_table(const CsvRows& rows, std::span<const std::string> columns, const std::string& name) {
  std::vector<size_t> indices;
  for (const std::string& column : columns) indices.push_back(column_index(rows, column, true, name));
  float value = 0;
  const bool has_header =
      std::any_of(indices.begin(), indices.end(), [&](size_t i) { return !parse_number(rows.front()[i], value); });
  std::vector<float> values;
  for (size_t row = has_header ? 1 : 0; row < rows.size(); ++row)
    for (const size_t index : indices) {
      if (!parse_number(cell(rows, row, index, name), value))
        fail(ErrorCode::kInvalidArgument,
             "A cell of the CSV file is no number; leave its column out of `columns`, and write decimals with a point: "
             "'{}' in "
             "row {}, column {} of {}",
             rows[row][index], row + 1, index + 1, name);
      values.push_back(value);
    }
  const auto width = static_cast<int64_t>(indices.size());
  return Tensor::of<float>({static_cast<int64_t>(values.size()) / width, width}, values);
}

std::vector<LabelledFile> labelled_files(const CsvRows& rows, const std::string& column, const std::string& name) {
  const bool has_header = rows.front()[0].find('.') == std::string::npos;
  const size_t index = column_index(rows, column, has_header, name);
  if (index == 0) fail(ErrorCode::kInvalidArgument, "The CSV file needs a label column after the file names: {}", name);
  std::vector<LabelledFile> files;
  for (size_t i = has_header ? 1 : 0; i < rows.size(); ++i)
    files.push_back({cell(rows, i, 0, name), cell(rows, i, index, name)});
  return files;
}

}  // namespace slipway
