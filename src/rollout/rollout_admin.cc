// Rollouts over the admin port: states as JSON, commands as POSTs.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "rollout/rollout.h"
#include "rollout/rollout_json.h"
#include "serve/admin/admin.h"

namespace slipway {
namespace {

using Json = nlohmann::json;
constexpr const char *kRoot = "/api/rollouts/", *kAllHistory = "/api/history";
constexpr int64_t kMaxHistory = 1000;

struct Place {
  std::string model, verb;
};

/// "/api/rollouts/MODEL/VERB"; the verb may be missing.
Place place_of(const AdminRequest& request) {
  const std::string rest = request.path.substr(std::string(kRoot).size());
  const size_t slash = rest.find('/');
  return {rest.substr(0, slash), slash == std::string::npos ? "" : rest.substr(slash + 1)};
}

Json body_of(const AdminRequest& request) {
  Json body = request.body.empty() ? Json::object() : Json::parse(request.body, nullptr, false);
  if (!body.is_object()) fail(ErrorCode::kInvalidArgument, "The body must be a JSON object: {}", request.path);
  return body;
}

std::string text_in(const Json& body, const char* key) {
  const auto found = body.find(key);
  if (found == body.end()) return {};
  if (!found->is_string()) fail(ErrorCode::kInvalidArgument, "A text is expected here: \"{}\"", key);
  return found->get<std::string>();
}

int64_t version_in(const Json& body, bool needed) {
  const auto found = body.find("version");
  if (found == body.end() && !needed) return 0;
  if (found == body.end() || !found->is_number_integer() || found->get<int64_t>() < 1)
    fail(ErrorCode::kInvalidArgument, "The version is expected as a positive whole number: \"version\"");
  return found->get<int64_t>();
}

RolloutCommand command_of(const std::string& verb) {
  if (verb == "pause") return RolloutCommand::kPause;
  if (verb == "resume") return RolloutCommand::kResume;
  if (verb == "promote") return RolloutCommand::kPromote;
  if (verb == "abort") return RolloutCommand::kAbort;
  fail(ErrorCode::kNotFound,
       "There is no such command; there are start, pause, resume, promote, abort, back, drill: '{}'",
       verb.substr(0, 32));
}

}  // namespace

AdminReply Rollouts::answer(const AdminRequest& request) {
  if (request.method == "GET" && request.path + "/" == kRoot) return {.body = status_json()};
  if (request.path == kAllHistory) return {.body = history_json(history("", kMaxHistory))};
  const auto [model, verb] = place_of(request);
  if (request.method == "GET") {
    const RolloutStatus now = status(model);
    if (verb.empty()) return {.body = rollout_json(now)};
    if (verb == "history") return {.body = history_json(history(model, kMaxHistory))};
    fail(ErrorCode::kNotFound, "There is nothing here: {}", request.path);
  }
  const Json body = body_of(request);
  const std::string who = text_in(body, "who");
  if (verb == "drill") {
    const DrillResult r = drill(model, version_in(body, false), who);
    const Json json = {{"model", model},
                       {"stable", r.live},
                       {"candidate", r.candidate},
                       {"routed_us", r.routed_us},
                       {"effective_us", r.effective_us}};
    return {.body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
  }
  if (verb == "back") {
    back(model, version_in(body, false), who);
  } else if (verb == "start") {
    RolloutStart how{.plan = std::nullopt, .override_unverified = text_in(body, "override_unverified"), .who = who};
    if (body.contains("plan")) how.plan = parse_rollout_plan(text_in(body, "plan"), "plan");
    start(model, version_in(body, true), how);
  } else {
    command(model, command_of(verb), who);
  }
  return {.body = rollout_json(status(model))};
}

void Rollouts::serve_on(AdminPlane& admin) {
  const auto handler = [this](const AdminRequest& request) { return answer(request); };
  admin.handle("GET", "/api/rollouts", handler);
  admin.handle("GET", kRoot, handler);
  admin.handle("GET", kAllHistory, handler);
  admin.handle("POST", kRoot, handler);
}

}  // namespace slipway
