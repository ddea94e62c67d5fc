#include "coordinator/retention.h"

#include <algorithm>

namespace qwen3::coordinator {

std::vector<int64_t> to_prune(std::vector<int64_t> committed, int64_t keep_latest, const std::set<int64_t>& in_use) {
  std::vector<int64_t> prune;
  if (keep_latest <= 0) return prune;
  std::ranges::sort(committed);
  for (size_t i = 0; i + keep_latest < committed.size(); ++i) {
    if (!in_use.contains(committed[i])) prune.push_back(committed[i]);
  }
  return prune;
}

}  // namespace qwen3::coordinator
