#include "parallel/expert/row_order.h"

namespace qwen3::parallel {

std::vector<int64_t> order_by_expert(std::span<const int64_t> counts, int64_t experts) {
  std::vector<int64_t> first;  // where the rows of each (source, expert) begin
  int64_t rows = 0;
  for (const int64_t count : counts) {
    first.push_back(rows);
    rows += count;
  }
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(rows));
  for (int64_t expert = 0; expert < experts; ++expert) {
    for (size_t i = static_cast<size_t>(expert); i < counts.size(); i += static_cast<size_t>(experts)) {
      for (int64_t row = 0; row < counts[i]; ++row) order.push_back(first[i] + row);
    }
  }
  return order;
}

std::vector<int64_t> inverse_permutation(std::span<const int64_t> permutation) {
  std::vector<int64_t> inverse(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i)
    inverse[static_cast<size_t>(permutation[i])] = static_cast<int64_t>(i);
  return inverse;
}

}  // namespace qwen3::parallel
