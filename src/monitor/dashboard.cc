// The dashboard's page, put together once from the embedded parts, and the admin paths that the monitor answers.
#include "monitor/dashboard.h"

#include <charconv>

#include "base/error.h"
#include "monitor/monitor.h"
#include "serve/admin/admin.h"

extern "C" {
extern const char chart_js_begin[], chart_js_end[];
extern const char dashboard_html_begin[], dashboard_html_end[];
extern const char dashboard_css_begin[], dashboard_css_end[];
extern const char dashboard_js_begin[], dashboard_js_end[];
}

namespace slipway {
namespace {

void fill_in(std::string& page, std::string_view mark, const char* begin, const char* end) {
  const size_t at = page.find(mark);
  if (at != std::string::npos) page.replace(at, mark.size(), begin, static_cast<size_t>(end - begin));
}

}  // namespace

std::string dashboard_html() {
  std::string page(dashboard_html_begin, dashboard_html_end);
  fill_in(page, "/*style*/", dashboard_css_begin, dashboard_css_end);
  fill_in(page, "/*charts*/", chart_js_begin, chart_js_end);
  fill_in(page, "/*script*/", dashboard_js_begin, dashboard_js_end);
  return page;
}

void Monitor::serve_on(AdminPlane& admin, std::function<std::string()> extra) {
  admin.handle("GET", "/", [page = dashboard_html()](const AdminRequest& request) {
    if (request.path != "/")  // a path that ends in '/' gets whatever is below, too
      fail(ErrorCode::kNotFound, "There is no such path; the dashboard is at /: {}", request.path.substr(0, 256));
    return AdminReply{.content_type = "text/html; charset=utf-8", .body = page};
  });
  admin.handle("GET", "/api/status", [this, extra = std::move(extra)](const AdminRequest&) {
    return AdminReply{.body = status_json(extra ? extra() : std::string())};
  });
  admin.handle("GET", "/api/series", [this](const AdminRequest& request) {
    int64_t since_ms = 0;
    const auto given = request.query.find("since");
    if (given != request.query.end())
      std::from_chars(given->second.data(), given->second.data() + given->second.size(), since_ms);
    return AdminReply{.body = series_json(since_ms)};
  });
  admin.handle("GET", "/api/alarms", [this](const AdminRequest&) { return AdminReply{.body = alarms_json()}; });
  admin.handle("GET", "/metrics", [this](const AdminRequest&) {
    return AdminReply{.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics_text()};
  });
}

}  // namespace slipway
