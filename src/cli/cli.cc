// What the verbs share: their frame, tables and numbers for people.
#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/visible.h"
#include "engine/plan.h"
#include "model/onnx/identity.h"
#include "model/onnx/onnx.h"
#include "serve/tls.h"

namespace slipway {

CLI::App* add_verb(Cli& cli, const std::string& name, const std::string& summary, const std::string& example,
                   bool& json) {
  CLI::App* verb = cli.app.add_subcommand(name, summary);
  verb->footer("\nExample:\n" + example);
  verb->add_flag("--json", json, "One JSON object on the last line of standard output, for machines");
  return verb;
}

void restart_with_passive_threads() {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  std::ifstream file("/proc/self/cmdline");
  const std::string line(std::istreambuf_iterator<char>(file), {});
  std::vector<std::string> words;
  for (size_t at = 0; at < line.size(); at += words.back().size() + 1) words.emplace_back(line.c_str() + at);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execv("/proc/self/exe", arguments.data());
  log_warning("The program could not start itself again; its threads may spin while they wait.");
}

void add_tls_client(CLI::App& verb, TlsFiles& tls) {
  verb.add_option("--tls-ca", tls.ca,
                  "Authorities (PEM) that https and grpcs servers are trusted by; else the system's");
  verb.add_option("--tls-cert", tls.cert, "Certificate (PEM) to show to a server that asks for one");
  verb.add_option("--tls-key", tls.key, "Its private key");
}

Graph load_model(const std::string& path) { return Plan::is_plan_file(path) ? Plan::graph_of(path) : load_onnx(path); }

namespace {
std::vector<std::string> files_of(const std::string& model) {
  return Plan::is_plan_file(model) ? std::vector{model} : model_files(model);
}
}  // namespace

uint64_t model_bytes(const std::string& path) {
  uint64_t bytes = 0;
  for (const std::string& file : files_of(path)) bytes += file_bytes(file);
  return bytes;
}

void require_replaces_nothing(const std::vector<std::string>& written, const std::vector<std::string>& models,
                              const std::vector<std::string>& others) {
  std::vector<std::string> read = others;
  const bool writes =
      std::any_of(written.begin(), written.end(), [](const std::string& name) { return !name.empty(); });
  for (const std::string& model : models)
    if (writes && !model.empty())
      for (std::string& file : files_of(model)) read.push_back(std::move(file));
  for (const std::string& output : written)
    for (const std::string& file : read)
      if (!output.empty() && !file.empty() && is_same_file(output, file))
        fail(ErrorCode::kInvalidArgument, "The output would replace a file that is read here; give it another name: {}",
             output);
}

std::map<std::string, int64_t> parse_dims(const std::vector<std::string>& pairs) {
  std::map<std::string, int64_t> dims;
  for (const std::string& pair : pairs) {
    const size_t equals = pair.rfind('=');
    int64_t size = 0;
    const char* end = pair.data() + pair.size();
    if (equals == std::string::npos || equals == 0 ||
        std::from_chars(pair.data() + equals + 1, end, size) != std::from_chars_result{end, std::errc()} || size < 1)
      fail(ErrorCode::kInvalidArgument, "A dimension is given as NAME=SIZE with a positive size: '{}'", pair);
    dims[pair.substr(0, equals)] = size;
  }
  return dims;
}

std::string default_timing_cache() { return join_path(user_cache_folder(), "timings.json"); }

void print_json(const nlohmann::json& json) {
  std::fflush(stderr);
  std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
void Table::add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = visible(cell);
  rows_.push_back(std::move(row));
}

void Table::print() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows_[r].size(); ++i) {
      const std::string& cell = rows_[r][i];
      const bool number = r > 0 && !cell.empty() &&
                          (std::isdigit(static_cast<unsigned char>(cell[0])) || cell[0] == '-' || cell[0] == '+');
      line += number ? fmt::format("{:>{}}  ", cell, widths[i]) : fmt::format("{:<{}}  ", cell, widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

std::string human_bytes(double bytes) {
  if (bytes < 1024) return fmt::format("{:.0f} B", bytes);
  if (bytes < 1024 * 1024) return fmt::format("{:.1f} KiB", bytes / 1024);
  if (bytes < 1024.0 * 1024 * 1024) return fmt::format("{:.2f} MiB", bytes / 1024 / 1024);
  return fmt::format("{:.2f} GiB", bytes / 1024 / 1024 / 1024);
}

std::string human_count(double count) {
  if (count < 1e4) return fmt::format("{:.0f}", count);
  if (count < 1e6) return fmt::format("{:.1f} k", count * 1e-3);
  if (count < 1e9) return fmt::format("{:.2f} M", count * 1e-6);
  return fmt::format("{:.2f} G", count * 1e-9);
}

}  // namespace slipway
