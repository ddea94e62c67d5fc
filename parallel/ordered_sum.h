// Sums over the microbatches of a step whose result does not depend on how the microbatches are spread over ranks:
// one binary tree over the global microbatch index, neighbours first (design 6, rule 2).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace qwen3::parallel {

// rows [n, ...] -> [...]: (r0 + r1) + (r2 + r3) ...; any n (an odd last row waits for the next level).
// The first row's values are taken, never added to zero. rows is overwritten.
at::Tensor tree_sum_(at::Tensor rows);

// Doubles, by the same tree.
double tree_sum(std::vector<double> values);

// The same tree, fed one leaf at a time or one whole subtree of 2^level leaves at a time: a binary counter that holds
// at most log2(n) + 1 partial sums. When not ordered, a running sum: one buffer.
class OrderedSum {
 public:
  explicit OrderedSum(bool ordered) : ordered_(ordered) {}
  // Takes ownership of `value`, which may be overwritten. When not ordered, all but the first may be of a narrower
  // dtype.
  void add(at::Tensor value, int level = 0);
  // The sum of everything added; forgets it. REQUIRES: something was added.
  at::Tensor take();
  bool empty() const { return partial_.empty(); }

 private:
  bool ordered_;
  std::vector<std::pair<int, at::Tensor>> partial_;  // level, sum; levels fall
};

}  // namespace qwen3::parallel
