#include "parallel/ordered_sum.h"

#include <c10/util/Exception.h>

#include "kernels/sum.h"
#include "parallel/cuda/cuda.h"

namespace qwen3::parallel {

at::Tensor tree_sum_(at::Tensor rows) {
  if (rows.is_cuda()) return cuda::tree_sum(rows);
  const int64_t n = rows.size(0);
  for (int64_t stride = 1; stride < n; stride *= 2) {
    for (int64_t i = 0; i + stride < n; i += 2 * stride) rows[i].add_(rows[i + stride]);
  }
  return rows[0];
}

double tree_sum(std::vector<double> values) {
  for (size_t stride = 1; stride < values.size(); stride *= 2) {
    for (size_t i = 0; i + stride < values.size(); i += 2 * stride) values[i] += values[i + stride];
  }
  return values.empty() ? 0 : values[0];
}

void OrderedSum::add(at::Tensor value, int level) {
  if (!ordered_) {
    if (partial_.empty()) {
      partial_.emplace_back(0, std::move(value));
    } else {
      kernels::add_to(partial_[0].second, value);
    }
    return;
  }
  for (; !partial_.empty() && partial_.back().first == level; ++level) {
    at::Tensor left = std::move(partial_.back().second);
    partial_.pop_back();
    value = left.add_(value);
  }
  partial_.emplace_back(level, std::move(value));
}

at::Tensor OrderedSum::take() {
  TORCH_CHECK(!partial_.empty(), "a gradient was asked for before any microbatch was added");
  at::Tensor sum = std::move(partial_.back().second);
  partial_.pop_back();
  while (!partial_.empty()) {  // only when the number of leaves is no power of two
    sum = partial_.back().second.add_(sum);
    partial_.pop_back();
  }
  return sum;
}

}  // namespace qwen3::parallel
