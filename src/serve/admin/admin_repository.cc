// Loading and unloading over the admin port.
#include "serve/admin/admin_repository.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/admin/admin.h"
#include "serve/json/model_json.h"
#include "serve/server.h"

namespace slipway {

void serve_repository(AdminPlane& admin, Server& server) {
  const auto index = [&server](const AdminRequest& request) {
    const auto body = nlohmann::json::parse(request.body.empty() ? "{}" : request.body, nullptr, false);
    const bool ready = body.is_object() && body.contains("ready") && body["ready"] == true;
    return AdminReply{
        .body = repository_index_json(server, ready).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
  };
  admin.handle("GET", "/v2/repository/index", index);
  admin.handle("POST", "/v2/repository/index", index);
  const std::string models = "/v2/repository/models/";
  admin.handle("POST", models, [&server, models](const AdminRequest& request) {
    const std::string rest = request.path.substr(models.size());
    const size_t slash = rest.rfind('/');
    const std::string model = rest.substr(0, slash), action = slash == std::string::npos ? "" : rest.substr(slash + 1);
    if (action == "load")
      server.load(model);
    else if (action == "unload")
      server.unload(model);
    else
      fail(ErrorCode::kNotFound, "There is no such address; POST to {}NAME/load or /unload", models);
    return AdminReply{.body = "{}"};
  });
}

}  // namespace slipway
