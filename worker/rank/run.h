// One rank's whole run: mesh -> data -> trainer -> restore -> steps -> last checkpoint -> export.
#pragma once
#include <string>

#include "qwen3/internal/v1/rank.pb.h"
#include "spec/config/job_spec.h"
#include "worker/rank/link.h"

namespace qwen3::rank {

// Runs the assignment to its end and reports it as finished. Throws what error_boundary.h knows.
void run(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment, Link& link);

}  // namespace qwen3::rank
