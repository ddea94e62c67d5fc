// What an assignment asks for: a training run, an evaluation or a conversion.
#pragma once
#include "qwen3/internal/v1/rank.pb.h"
#include "spec/config/job_spec.h"
#include "worker/rank/link.h"

namespace qwen3::rank {

// Performs the assignment to its end and reports it as finished. Throws what error_boundary.h knows.
void perform(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment, Link& link);

}  // namespace qwen3::rank
