// States, verdicts and histories as JSON.
#include "rollout/rollout_json.h"

#include <nlohmann/json.hpp>

namespace slipway {
namespace {

using Json = nlohmann::json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json json_of(const std::vector<GateVerdict>& verdicts) {
  Json list = Json::array();
  for (const GateVerdict& v : verdicts)
    list.push_back({{"name", v.name},
                    {"verdict", to_string(v.verdict)},
                    {"statistic", v.statistic},
                    {"low", v.low},
                    {"high", v.high},
                    {"bound", v.bound},
                    {"p", v.p},
                    {"alpha", v.alpha},
                    {"n", v.n},
                    {"live_n", v.baseline_n},
                    {"sentence", v.sentence}});
  return list;
}

Json json_of(const std::vector<JournalEvent>& events) {
  Json list = Json::array();
  for (const JournalEvent& e : events) {
    Json line = {{"id", e.id},       {"at_ms", e.at_ms},       {"model", e.model},
                 {"event", e.event}, {"sentence", e.sentence}, {"who", e.who}};
    if (Json details = Json::parse(e.details, nullptr, false); !details.is_discarded())
      line["verdicts"] = std::move(details);
    list.push_back(std::move(line));
  }
  return list;
}

Json json_of(const RolloutStatus& s) {
  Json steps = Json::array();
  for (const RolloutStep& step : s.steps) steps.push_back(step.share);
  Json json = {{"model", s.model},
               {"state", to_string(s.phase)},
               {"stable", s.live},
               {"candidate", s.candidate},
               {"share", s.share},
               {"steps", std::move(steps)},
               {"step", s.step},
               {"step_seconds", s.step_seconds},
               {"verdicts", json_of(s.verdicts)},
               {"reason", s.reason},
               {"override", s.override_reason},
               {"journal_fault", s.journal_fault},
               {"history", json_of(s.history)}};
  json["rollback_us"] = s.rollback_us ? Json(*s.rollback_us) : Json();
  return json;
}

}  // namespace

std::string verdicts_json(const std::vector<GateVerdict>& verdicts) { return dump(json_of(verdicts)); }
std::string rollout_json(const RolloutStatus& status) { return dump(json_of(status)); }
std::string history_json(const std::vector<JournalEvent>& events) { return dump(json_of(events)); }

std::string Rollouts::status_json() const {
  Json all = Json::array();
  for (const RolloutStatus& s : status()) all.push_back(json_of(s));
  return dump(all);
}

}  // namespace slipway
