#include "parallel/ordered_sum.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <bit>

namespace qwen3::parallel {
namespace {

at::Tensor random_rows(int64_t n) {
  return at::randn({n, 1000}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{3}), at::kFloat);
}

// The definition: halves of a power of two, added.
at::Tensor tree(const at::Tensor& rows) {
  const int64_t n = rows.size(0);
  return n == 1 ? rows[0].clone() : tree(rows.slice(0, 0, n / 2)) + tree(rows.slice(0, n / 2));
}

TEST(OrderedSum, LeavesOneByOneAreTheTreeOverAllOfThem) {
  const at::Tensor rows = random_rows(8);
  OrderedSum sum(/*ordered=*/true);
  for (int64_t m = 0; m < 8; ++m) sum.add(rows[m].clone());
  EXPECT_TRUE(sum.take().equal(tree(rows)));
}

TEST(OrderedSum, WholeSubtreesAreTheSameTree) {
  const at::Tensor rows = random_rows(8);
  for (int64_t ranks : {2, 4, 8}) {  // each exchange brings the sum of `ranks` neighbours
    OrderedSum sum(/*ordered=*/true);
    for (int64_t m = 0; m < 8; m += ranks) {
      sum.add(tree_sum_(rows.slice(0, m, m + ranks).clone()).clone(), std::countr_zero(static_cast<uint64_t>(ranks)));
    }
    EXPECT_TRUE(sum.take().equal(tree(rows))) << ranks;
  }
}

TEST(OrderedSum, ARunningSumIsNotTheTreeInFloat32) {  // or the tests above could not fail
  const at::Tensor rows = random_rows(8);
  OrderedSum sum(/*ordered=*/false);
  for (int64_t m = 0; m < 8; ++m) sum.add(rows[m].clone());
  const at::Tensor running = sum.take();
  EXPECT_FALSE(running.equal(tree(rows)));
  EXPECT_TRUE(at::allclose(running, tree(rows), 1e-5, 1e-5));  // float32 rounding of 8 numbers of size 1
}

TEST(OrderedSum, DoublesFollowTheSameTree) {
  EXPECT_EQ(tree_sum({1e16, 1.0, -1e16, 1.0}), (1e16 + 1.0) + (-1e16 + 1.0));
  EXPECT_EQ(tree_sum({}), 0.0);
  EXPECT_EQ(tree_sum({3.0}), 3.0);
}

}  // namespace
}  // namespace qwen3::parallel
