// Initial weights: a pure function of (seed, tensor name, flat index).
#include "model/init.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/philox.h"

namespace qwen3::model {
namespace {

using ::testing::ElementsAre;

Parameter parameter(std::string name, std::vector<int64_t> shape, std::string tensor = "") {
  Parameter result;
  result.tensor = tensor.empty() ? name : tensor;
  result.name = std::move(name);
  result.shape = std::move(shape);
  return result;
}

at::Tensor initial(const Parameter& p, uint64_t seed, at::ScalarType dtype = at::kFloat) {
  at::Tensor whole = at::empty(p.shape, dtype);
  fill_initial(whole, p, seed, /*first=*/0);
  return whole;
}

// Random123's known-answer file (kat_vectors, "philox4x32 10").
TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_THAT(philox4x32_10({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  const uint32_t ones = 0xffffffff;
  EXPECT_THAT(philox4x32_10({ones, ones, ones, ones}, {ones, ones}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Init, AnySliceEqualsTheSliceOfTheWhole) {
  const Parameter p = parameter("layers.0.attention.wq.weight", {37, 53});
  const at::Tensor whole = initial(p, /*seed=*/7).flatten();
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 2}, {3, 6}, {5, 1000}, {1957, 4}, {1960, 1}, {11, 0}}) {
    at::Tensor slice = at::empty({count});
    fill_initial(slice, p, 7, first);
    EXPECT_TRUE(at::equal(slice, whole.narrow(0, first, count))) << first << " + " << count;
  }
}

TEST(Init, DoesNotDependOnTheNumberOfThreads) {
  const Parameter p = parameter("w", {300, 1001});
  at::set_num_threads(1);
  const at::Tensor one = initial(p, 1);
  at::set_num_threads(4);
  const at::Tensor four = initial(p, 1);
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(one, four));
}

TEST(Init, IsNormalWithTheParametersDeviation) {
  const at::Tensor values = initial(parameter("w", {1000, 1000}), 3).to(at::kDouble).div(0.02);
  // Standard errors of a million samples: mean 1e-3, variance 1.4e-3, kurtosis 4.9e-3; bounds are five of them.
  EXPECT_NEAR(values.mean().item<double>(), 0, 5e-3);
  EXPECT_NEAR(values.square().mean().item<double>(), 1, 7e-3);
  EXPECT_NEAR(values.pow(4).mean().item<double>(), 3, 2.5e-2);
  // Neighbours, which come from one Box-Muller pair or one counter, are uncorrelated.
  const at::Tensor flat = values.flatten();
  for (const int64_t lag : {1, 2, 3, 4}) {
    const int64_t n = flat.numel() - lag;
    EXPECT_NEAR((flat.narrow(0, 0, n) * flat.narrow(0, lag, n)).mean().item<double>(), 0, 5e-3) << lag;
  }
}

TEST(Init, DiffersByNameAndBySeedAndFollowsTheTensorNotTheUse) {
  const at::Tensor base = initial(parameter("a", {64}), 1);
  EXPECT_FALSE(at::equal(base, initial(parameter("b", {64}), 1)));
  EXPECT_FALSE(at::equal(base, initial(parameter("a", {64}), 2)));
  EXPECT_TRUE(at::equal(base, initial(parameter("lm_head.weight", {64}, /*tensor=*/"a"), 1)));
}

// The values themselves are part of the contract: a run must be the same after an upgrade of this program. Computed
// once by a separate Python program from the formulas in model/init.h (XXH64 with the seed over the name).
TEST(Init, KeepsItsValuesBetweenVersions) {
  const at::Tensor values = initial(parameter("tok_embeddings.weight", {2, 2}), 42);
  const float* v = values.const_data_ptr<float>();
  EXPECT_THAT(std::vector<float>(v, v + 4),
              ElementsAre(-0x1.78d78p-8f, -0x1.3e6ffcp-6f, 0x1.5bbf9p-7f, 0x1.19edeep-6f));
}

TEST(Init, Float64HoldsTheFloat32Values) {
  const Parameter p = parameter("w", {33});
  EXPECT_TRUE(at::equal(initial(p, 5, at::kDouble), initial(p, 5, at::kFloat).to(at::kDouble)));
}

TEST(Init, NamesTheParameterWhenTheSliceDoesNotFit) {
  at::Tensor slice = at::empty({4});
  try {
    fill_initial(slice, parameter("w", {6}), 1, /*first=*/3);
    FAIL() << "no exception";
  } catch (const c10::Error& error) {
    EXPECT_STREQ(error.what_without_backtrace(), "fill_initial of w: elements [3, 7) asked for, but the tensor has 6");
  }
}

}  // namespace
}  // namespace qwen3::model
