// The two orders of rows that came from several sources for several experts; pure index arithmetic.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace qwen3::parallel {

// Rows lie by source, and those of one source by expert. counts [sources, experts], row-major: rows of each.
// In the order by expert, and of one expert by source, row i is the one that lay at result[i].
std::vector<int64_t> order_by_expert(std::span<const int64_t> counts, int64_t experts);

// result[permutation[i]] == i. REQUIRES: a permutation of 0, 1, 2, ...
std::vector<int64_t> inverse_permutation(std::span<const int64_t> permutation);

}  // namespace qwen3::parallel
