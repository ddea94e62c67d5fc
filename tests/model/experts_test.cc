// A linear layer for each expert against one matrix product for each, and its groups against each group alone.
#include "model/experts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <vector>

namespace qwen3::model {
namespace {

constexpr int64_t kDim = 16, kHidden = 24, kExperts = 8;

// Rows 0, 5, 0, 1, 34, ...: an expert without rows, one with a single row.
struct Groups {
  at::Tensor counts = at::tensor({0, 5, 0, 1, 34, 0, 17, 7}, at::kLong);
  at::Tensor rows, weight, gradient;
  explicit Groups(at::ScalarType dtype) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
    const auto normal = [&](at::IntArrayRef shape) {
      return at::empty(shape, at::kDouble).normal_(0, 1, generator).to(at::kBFloat16).to(dtype);  // alike in all dtypes
    };
    rows = normal({64, kDim}).requires_grad_();
    weight = normal({kExperts, kHidden, kDim}).requires_grad_();
    gradient = normal({64, kHidden});
  }
};

TEST(GroupedLinear, IsOneMatrixProductPerExpertForwardAndBackward) {
  Groups g(at::kFloat);
  const at::Tensor y = grouped_linear(g.rows, g.weight, g.counts);
  y.backward(g.gradient);
  int64_t first = 0;
  torch::NoGradGuard no_gradients;
  for (int64_t e = 0; e < kExperts; ++e) {
    const int64_t n = g.counts[e].item<int64_t>();
    const at::Tensor x = g.rows.narrow(0, first, n), dy = g.gradient.narrow(0, first, n);
    EXPECT_TRUE(at::equal(y.narrow(0, first, n), at::mm(x, g.weight[e].t()))) << e;
    EXPECT_TRUE(at::equal(g.rows.grad().narrow(0, first, n), at::mm(dy, g.weight[e]))) << e;
    EXPECT_TRUE(at::equal(g.weight.grad()[e], at::mm(dy.t(), x))) << e;  // zeros for an expert without rows
    first += n;
  }
}

TEST(GroupedLinear, InBFloat16AgreesWithTheExactPathWithinItsRounding) {
  Groups rounded(at::kBFloat16), exact(at::kDouble);
  const at::Tensor y = grouped_linear(rounded.rows, rounded.weight, rounded.counts);
  const at::Tensor want = grouped_linear(exact.rows, exact.weight, exact.counts);
  y.backward(rounded.gradient);
  want.backward(exact.gradient);
  const auto relative = [](const at::Tensor& a, const at::Tensor& b) {
    return ((a.to(at::kDouble) - b).norm() / b.norm()).item<double>();
  };
  // Inputs are the same; each result is rounded once to 8 bits: 2^-9 at most, 2^-9 / sqrt(3) on average.
  EXPECT_LE(relative(y, want), 2e-3);
  EXPECT_LE(relative(rounded.rows.grad(), exact.rows.grad()), 2e-3);
  EXPECT_LE(relative(rounded.weight.grad(), exact.weight.grad()), 2e-3);
  EXPECT_TRUE(at::equal(rounded.weight.grad()[0], at::zeros({kHidden, kDim}, at::kBFloat16)));
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return at::equal(a.contiguous().view(at::kInt), b.contiguous().view(at::kInt));
}

// What `groups` calls of one group each give, added by hand.
TEST(GroupedLinear, OfSeveralGroupsIsBitwiseEachGroupAloneAndTheTreeOfTheirWeightGradients) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(4);
  const auto normal = [&](at::IntArrayRef shape) { return at::empty(shape, at::kFloat).normal_(0, 1, generator); };
  for (const int64_t groups : {1, 2, 3, 4, 6, 8}) {
    // Some experts have no rows in some groups; the last has none at all.
    at::Tensor counts = at::empty({groups, kExperts}, at::kLong).random_(0, 5, generator);
    counts.select(1, kExperts - 1).zero_();
    const int64_t total = counts.sum().item<int64_t>();
    at::Tensor rows = normal({total, kDim}).requires_grad_(), weight = normal({kExperts, kHidden, kDim});
    const at::Tensor gradient = normal({total, kHidden});
    weight.requires_grad_();
    const at::Tensor y = grouped_linear(rows, weight, counts);
    y.backward(gradient);

    std::vector<at::Tensor> sums;  // of each group, then of the tree's levels
    int64_t first = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t n = counts[g].sum().item<int64_t>();
      const at::Tensor of_group = rows.detach().narrow(0, first, n).clone().requires_grad_();
      const at::Tensor alone = weight.detach().clone().requires_grad_();
      const at::Tensor want = grouped_linear(of_group, alone, counts[g]);
      want.backward(gradient.narrow(0, first, n));
      EXPECT_TRUE(same_bits(y.narrow(0, first, n), want)) << groups << " groups, " << g;
      EXPECT_TRUE(same_bits(rows.grad().narrow(0, first, n), of_group.grad())) << groups << " groups, " << g;
      sums.push_back(alone.grad());
      first += n;
    }
    while (sums.size() > 1) {
      std::vector<at::Tensor> level;
      for (size_t i = 0; i < sums.size(); i += 2)
        level.push_back(i + 1 < sums.size() ? sums[i] + sums[i + 1] : sums[i]);
      sums = level;
    }
    EXPECT_TRUE(same_bits(weight.grad(), sums[0])) << groups << " groups";
  }
}

// (-0) + 0 is 0: a group without rows counts as a summand.
TEST(GroupedLinear, AddsTheZerosOfGroupsWithoutRows) {
  for (const int64_t with_rows : {0, 1}) {
    at::Tensor counts = at::zeros({2, 1}, at::kLong);
    counts[with_rows][0] = 1;
    const at::Tensor rows = at::full({1, kDim}, -1e-30f), gradient = at::full({1, kHidden}, 1e-30f);
    at::Tensor weight = at::ones({1, kHidden, kDim}).requires_grad_();
    grouped_linear(rows, weight, counts).backward(gradient);
    EXPECT_TRUE(same_bits(weight.grad(), at::zeros({1, kHidden, kDim})));
    weight.mutable_grad().reset();
    grouped_linear(rows, weight, counts[with_rows]).backward(gradient);
    EXPECT_TRUE(same_bits(weight.grad(), at::full({1, kHidden, kDim}, -0.0f)));  // alone, the product underflows to -0
  }
}

}  // namespace
}  // namespace qwen3::model
