#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/tensor.h"

namespace slipway {

using CsvRows = std::vector<std::vector<std::string>>;

/// Rows of cells with optional double quotes; blank lines and a byte order mark are dropped. Cells stand between
/// commas, or else semicolons or tabs, whichever every row has the same number of, at least one. Fails with kNotFound
/// or kInvalidArgument naming the file and line (an open quote).
CsvRows parse_csv(const std::string& text, const std::string& name);
CsvRows read_csv(const std::string& path);

/// One label per sample from a CSV with `count` rows, or one more with a header. `column`: its header or number from
/// 1; empty: the second, or the only one.
std::vector<std::string> label_list(const CsvRows& rows, const std::string& column, int64_t count,
                                    const std::string& name);

/// Whether a cell is a number, and which.
bool parse_number(const std::string& cell, float& value);

/// The numbers in `columns` (each its header or number from 1) as float32 [rows, columns]; a first row with a cell
/// there that is no number is the header. Fails with kInvalidArgument naming the row.
Tensor numeric_table(const CsvRows& rows, std::span<const std::string> columns, const std::string& name);

struct LabelledFile {
  std::string file, label;
};
/// Files and labels from a CSV whose first column names files; a first row without a dot in it is the header.
std::vector<LabelledFile> labelled_files(const CsvRows& rows, const std::string& column, const std::string& name);

}  // namespace slipway
