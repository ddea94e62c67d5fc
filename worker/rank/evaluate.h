// Evaluation of a checkpoint, as a task of one or more ranks.
#pragma once
#include "qwen3/internal/v1/rank.pb.h"
#include "spec/config/job_spec.h"
#include "worker/rank/link.h"

namespace qwen3::rank {

// Performs assignment.evaluation() on the mesh of assignment.spec() and reports it as finished. Throws what
// error_boundary.h knows.
void evaluate(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment, Link& link);

}  // namespace qwen3::rank
