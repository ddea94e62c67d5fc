#include "coordinator/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace qwen3::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Retention, KeepsTheNewest) {
  EXPECT_THAT(to_prune({30, 10, 20, 40}, 2, {}), ElementsAre(10, 20));
  EXPECT_THAT(to_prune({10, 20}, 2, {}), IsEmpty());
}

TEST(Retention, ZeroKeepsAll) { EXPECT_THAT(to_prune({1, 2, 3}, 0, {}), IsEmpty()); }

TEST(Retention, WhatIsInUseStays) { EXPECT_THAT(to_prune({10, 20, 30, 40}, 2, {10}), ElementsAre(20)); }

TEST(Retention, TheNewestAndThoseInUseAreNeverPruned) {
  std::mt19937 random(3);
  for (int round = 0; round < 10'000; ++round) {
    std::set<int64_t> steps, in_use;
    for (size_t i = 0, count = 1 + random() % 8; i < count; ++i) steps.insert(random() % 50);
    for (const int64_t step : steps) {
      if (random() % 4 == 0) in_use.insert(step);
    }
    const auto prune = to_prune({steps.begin(), steps.end()}, static_cast<int64_t>(1 + random() % 4), in_use);
    EXPECT_THAT(prune, ::testing::Not(::testing::Contains(*steps.rbegin())));
    for (const int64_t step : prune) EXPECT_FALSE(in_use.contains(step));
  }
}

}  // namespace
}  // namespace qwen3::coordinator
