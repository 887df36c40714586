#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "engine/plan.h"
#include "engine/plan_file.h"

namespace slipway {

/// A plan as JSON: ports, and steps with the node alone as text, tactic, layouts, places; its weights go to `blobs`.
nlohmann::json plan_record(const Plan& plan, BlobTable& blobs);
/// The plan again, its kernels created anew. The record is a stranger's: fails with
/// kInvalidModel or a JSON exception where it makes no sense, as Tactic::create does where this machine can't.
std::shared_ptr<const Plan> plan_from(const nlohmann::json& record, const PlanFile& file);

}  // namespace slipway
