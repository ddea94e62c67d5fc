// The whole environment of a rank process: only what is listed here, so that a run does not depend on who started the
// daemon, and no secret of its environment reaches a job. Pure.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "worker/daemon/options.h"

namespace qwen3::internal::v1 {
class RankAssignment;
}

namespace qwen3::worker {

// OpenMP threads of a rank: what the job asks for, else one in ordered mode, else its share of the host's cores.
int threads_of_rank(const internal::v1::RankAssignment& assignment, int cores, int slots);

// "NAME=value" each. `variable` is the daemon's own environment: the value, or null.
std::vector<std::string> rank_environment(const internal::v1::RankAssignment& assignment, const DaemonOptions& options,
                                          int cores, const std::function<const char*(const char*)>& variable);

}  // namespace qwen3::worker
