// The Report, or a training alone, as one HTML page: verdict and checks as plain HTML, readable without scripts; the
// figures are drawn by report.js from the JSON inside the page, with Chart.js. Styles and scripts are embedded in the
// program, nothing is fetched. Text from models and data is escaped: as HTML here, and `<` as \u003c within the JSON.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "report/report.h"

extern "C" {
extern const char chart_js_begin[], chart_js_end[];
extern const char report_css_begin[], report_css_end[];
extern const char report_js_begin[], report_js_end[];
}

namespace slipway {
namespace {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string figure(double value, const std::string& unit) {
  if (!std::isfinite(value)) return "NaN";
  const std::string number =
      unit == "points" || unit == "%" ? fmt::format("{:.2f}", value) : fmt::format("{:.4g}", value);
  return unit.empty() ? number : unit == "x" ? number + "×" : number + " " + unit;
}

std::string check_row(const Check& c) {
  return fmt::format(
      "<tr><td><span class=\"mark {}\">{}</span></td><td>{}<small>{}</small></td><td class=\"figure\">{}</td>"
      "<td class=\"figure soft\">{} {}</td></tr>\n",
      to_string(c.verdict), to_string(c.verdict), escape(c.title), escape(c.sentence), figure(c.figure, c.unit),
      escape(c.bound), figure(c.threshold, c.unit));
}

std::string escaped(const nlohmann::json& j) {
  const std::string text = j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<')
      safe += "\\u003c";
    else
      safe += c;
  }
  return safe;
}

std::string data_of(const Report& report) {
  nlohmann::json j = to_json(report);
  j["probe_count"] = report.probes.size();
  j.erase("probes");
  return escaped(j);
}

/// From the doctype to the body's first tag.
std::string head_of(const std::string& title) {
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n",
      escape(title));
  page.append(report_css_begin, report_css_end);
  return page + "</style></head><body>\n";
}

/// The figures' place, the footer and what draws them, to the end.
std::string tail_of(const std::string& footer, const std::string& without_scripts, const std::string& data) {
  std::string page =
      fmt::format("<div id=\"figures\"><noscript><p>{}</p></noscript></div>\n<footer>{}</footer>\n</main>\n<script>",
                  without_scripts, escape(footer));
  page.append(chart_js_begin, chart_js_end);
  page += "</script>\n<script type=\"application/json\" id=\"report\">" + data + "</script>\n<script>";
  page.append(report_js_begin, report_js_end);
  return page + "</script>\n</body></html>\n";
}

std::string notes_of(const Report& r) {
  std::string notes;
  for (const std::string& warning : r.data.warnings)
    notes += fmt::format("<p class=\"warning\">Warning: {}</p>\n", escape(warning));
  if (!r.performance.integer_note.empty())
    notes += fmt::format("<p class=\"note\">{}</p>\n", escape(r.performance.integer_note));
  return notes;
}

const char* headline(Verdict verdict) {
  return verdict == Verdict::kPass ? "Passed" : verdict == Verdict::kFail ? "Failed" : "Inconclusive";
}

}  // namespace

std::string report_html(const Report& r) {
  std::string page = head_of(fmt::format("{}: {}", headline(r.verdict), file_name(r.candidate.path)));
  page += fmt::format(
      "<header class=\"banner {}\"><div><div class=\"verdict\"><h1>{}</h1>"
      "<span class=\"names\">{} against {}</span></div>\n<p class=\"reason\">{}</p></div></header>\n<main>\n{}",
      to_string(r.verdict), headline(r.verdict), escape(file_name(r.candidate.path)),
      escape(file_name(r.reference.path)), escape(r.reason), notes_of(r));
  page +=
      "<h2>Checks</h2>\n<div class=\"card\"><table class=\"checks\"><thead><tr><th>verdict</th><th>check</th>"
      "<th>figure</th><th>policy</th></tr></thead><tbody>\n";
  for (const Verdict verdict : {Verdict::kFail, Verdict::kInconclusive, Verdict::kPass})
    for (const Check& check : r.checks)
      if (check.verdict == verdict) page += check_row(check);
  return page + "</tbody></table></div>\n" +
         tail_of(fmt::format("{} · {}", r.tool, r.date),
                 "The charts need scripts; the checks above and the JSON report hold the figures.", data_of(r));
}

std::string training_html(const TrainingFigures& training, const std::string& model) {
  const std::string name = file_name(model);
  const nlohmann::json record = training;
  std::string page = head_of("Training: " + name);
  page += fmt::format(
      "<header class=\"banner\"><div><div class=\"verdict\"><h1>Quantisation-aware training</h1>"
      "<span class=\"names\">{}</span></div>\n<p class=\"reason\">Training ended: {}.</p></div></header>\n<main>\n",
      escape(name), escape(record.at("result").at("stopped").get<std::string>()));
  return page + tail_of("slipway " SLIPWAY_VERSION, "The charts need scripts.",
                        escaped({{"page", "training"}, {"training", record}}));
}

}  // namespace slipway
