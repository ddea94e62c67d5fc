#include "client/parity/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "tests/temporary_folder.h"

namespace qwen3::client {
namespace {

class Compare : public ::testing::Test {
 protected:
  template <class Number>
  std::string write(const std::string& name, const std::vector<Number>& logits, std::vector<int64_t> shape) const {
    const auto dtype = sizeof(Number) == 8 ? checkpoint::Dtype::kFloat64 : checkpoint::Dtype::kFloat32;
    const checkpoint::TensorBytes tensor{"logits", dtype, std::move(shape), std::as_bytes(std::span(logits))};
    EXPECT_TRUE(checkpoint::write_safetensors(folder_ + "/" + name, std::span(&tensor, 1)).ok());
    return folder_ + "/" + name;
  }
  const tests::TemporaryFolder temporary_{"compare"};
  const std::string& folder_ = temporary_.path();
};

TEST_F(Compare, TheDivergenceIsThatOfTheDefinition) {
  // softmax of log probabilities is the probabilities: KL((0.5, 0.25, 0.25) || (0.25, 0.5, 0.25)) = ln(2) / 4, and of
  // equal rows 0. The float32 of the second file limits it to about 1e-8.
  const std::vector<double> p = {std::log(0.5), std::log(0.25), std::log(0.25), 5, 6, 7};
  const std::vector<float> q = {std::log(0.25f), std::log(0.5f), std::log(0.25f), 5, 6, 7};
  const auto found = compare_logits(write("p", p, {1, 2, 3}), write("q", q, {1, 2, 3}));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->rows, 2);
  EXPECT_EQ(found->vocab, 3);
  EXPECT_NEAR(found->max_kl, std::log(2.0) / 4, 1e-7);
  EXPECT_NEAR(found->mean_kl, std::log(2.0) / 8, 1e-7);
  EXPECT_NEAR(found->max_difference, std::log(2.0), 1e-7);
  EXPECT_EQ(found->same_argmax, 1);
}

TEST_F(Compare, AConstantAddedToARowIsNoDivergence) {
  const std::vector<double> p = {1, 2, 3}, q = {1001, 1002, 1003};
  const auto found = compare_logits(write("p", p, {1, 1, 3}), write("q", q, {1, 1, 3}));
  EXPECT_LT(found->mean_kl, 1e-20);
  EXPECT_EQ(found->max_difference, 1000);
}

TEST_F(Compare, TinyDivergencesAreToldApart) {
  // For a shift e of one of two equal logits the divergence is e^2 / 8 to first order.
  const std::vector<double> p = {0, 0}, q = {0, 1e-7};
  const auto found = compare_logits(write("p", p, {1, 1, 2}), write("q", q, {1, 1, 2}));
  EXPECT_NEAR(found->mean_kl, 1e-14 / 8, 1e-20);
}

TEST_F(Compare, AnInfinityOrNanNeverPasses) {
  const std::vector<double> p = {0, 0};
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const std::vector<double> q = {0, bad};
    const auto found = compare_logits(write("p", p, {1, 1, 2}), write("q", q, {1, 1, 2}));
    EXPECT_EQ(found->not_finite, 1);
    EXPECT_FALSE(passes(*found, {1e9, 1e9}));
  }
}

TEST_F(Compare, WhatCannotBeComparedIsNamed) {
  const std::string good = write<double>("good", {1, 2}, {1, 1, 2});
  const auto message = [&](const std::string& other) {
    return std::string(compare_logits(good, other).status().message());
  };
  EXPECT_THAT(message(write<double>("wide", {1, 2, 3}, {1, 1, 3})), ::testing::HasSubstr("[1, 1, 2]"));
  EXPECT_THAT(message(write<double>("flat", {1, 2}, {1, 2})), ::testing::HasSubstr("must be F32 or F64 [B, S, V]"));
  EXPECT_THAT(message(folder_ + "/none"), ::testing::HasSubstr("/none"));
}

TEST(ParityLimits, AreTighterInFloat32) {
  LogitComparison found{.rows = 1, .vocab = 2, .mean_kl = 2e-8};  // an eps of 1e-5 for 1e-6
  EXPECT_FALSE(passes(found, parity_limits("float32")));
  EXPECT_TRUE(passes(found, parity_limits("bfloat16")));
  found.mean_kl = 8e-12;
  EXPECT_TRUE(passes(found, parity_limits("float32")));
  found.max_difference = 2e-4;
  EXPECT_FALSE(passes(found, parity_limits("float32")));
}

}  // namespace
}  // namespace qwen3::client
