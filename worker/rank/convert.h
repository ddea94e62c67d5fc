// Conversion and verification of checkpoints, as a task of one rank.
#pragma once
#include "qwen3/internal/v1/rank.pb.h"
#include "worker/rank/link.h"

namespace qwen3::rank {

// Performs assignment.conversion() and reports it as finished. Throws std::runtime_error.
void convert(const internal::v1::RankAssignment& assignment, Link& link);

}  // namespace qwen3::rank
