// Which checkpoints of a job to delete. Pure.
#pragma once
#include <cstdint>
#include <set>
#include <vector>

namespace qwen3::coordinator {

// Of the committed steps (any order), those beyond the newest `keep_latest`, oldest first; 0 keeps all. The newest and
// those in use are never named.
std::vector<int64_t> to_prune(std::vector<int64_t> committed, int64_t keep_latest, const std::set<int64_t>& in_use);

}  // namespace qwen3::coordinator
