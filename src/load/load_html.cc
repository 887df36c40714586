// A load's figures as one HTML page: what was asked and the verdicts as plain HTML; the curves are drawn by
// load_report.js from the JSON inside the page, with Chart.js. Styles are the Report's. Nothing is fetched. Text from
// the server is escaped: as HTML here, and `<` as \u003c within the JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "load/load_report.h"

extern "C" {
extern const char chart_js_begin[], chart_js_end[];
extern const char report_css_begin[], report_css_end[];
extern const char load_report_js_begin[], load_report_js_end[];
}

namespace slipway {
namespace {

std::string replace_each(std::string_view text, std::initializer_list<std::pair<char, std::string_view>> pairs) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    std::string_view with(&c, 1);
    for (const auto& [from, to] : pairs)
      if (c == from) with = to;
    out += with;
  }
  return out;
}

std::string escape_html(std::string_view text) {
  return replace_each(text, {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}});
}

std::string check_row(const char* verdict, const std::string& title, const std::string& figure,
                      const std::string& threshold) {
  return fmt::format(
      "<tr><td><span class=\"mark {0}\">{0}</span></td><td>{1}</td><td class=\"figure\">{2}</td>"
      "<td class=\"figure soft\">{3}</td></tr>\n",
      verdict, escape_html(title), escape_html(figure), escape_html(threshold));
}

}  // namespace

std::string load_report_html(const LoadReport& r) {
  const bool judged = !r.checks.empty() || r.soak;
  const bool open = r.soak && r.soak->verdict == Verdict::kInconclusive && !r.failed();
  const char* verdict = !judged ? "" : r.failed() ? "fail" : open ? "inconclusive" : "pass";
  const char* headline = !judged ? "Load" : r.failed() ? "Missed" : open ? "Inconclusive" : "Reached";
  const std::string model = r.levels.empty() ? "" : r.levels.back().result.model;
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}: {}</title>\n<style>\n",
      headline, escape_html(r.url));
  page.append(report_css_begin, report_css_end);
  page += fmt::format(
      "</style></head><body>\n<header class=\"banner {}\"><div><div class=\"verdict\"><h1>{}</h1>"
      "<span class=\"names\">{}{}{}</span></div>\n<p class=\"reason\">{}</p></div></header>\n<main>\n",
      verdict, headline, escape_html(model), model.empty() ? "" : " at ", escape_html(r.url),
      escape_html(r.soak ? r.soak->reason : r.samples));
  if (judged) {
    page += "<h2>Checks</h2>\n<div class=\"card\"><table class=\"checks\"><tbody>\n";
    for (const LoadCheck& c : r.checks)
      page += check_row(c.met ? "pass" : "fail", c.title, fmt::format("{:.4g} {}", c.figure, c.unit),
                        fmt::format("{} {:g} {}", c.bound, c.threshold, c.unit));
    if (r.soak)
      page +=
          check_row(to_string(r.soak->verdict), "growth of memory", signed_figure(r.soak->memory_mib.slope) + " MiB/h",
                    fmt::format("at most {:g} MiB/h", r.soak->max_memory_slope_mib_per_hour));
    page += "</tbody></table></div>\n";
  }
  page +=
      "<div id=\"figures\"><noscript><p>The charts need scripts; `slipway load --json` prints the "
      "figures.</p></noscript>"
      "</div>\n";
  page += fmt::format("<footer>slipway {} · {} · {}</footer>\n</main>\n<script>", SLIPWAY_VERSION,
                      escape_html(r.samples), escape_html(r.date));
  page.append(chart_js_begin, chart_js_end);
  page += "</script>\n<script type=\"application/json\" id=\"load\">" +
          replace_each(to_json(r).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), {{'<', "\\u003c"}}) +
          "</script>\n<script>";
  page.append(load_report_js_begin, load_report_js_end);
  return page + "</script>\n</body></html>\n";
}

}  // namespace slipway
