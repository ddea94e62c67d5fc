#include "coordinator/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace qwen3::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Retention, KeepsTheNewest) {
  EXPECT_THAT(to_prune({30, 10, 20, 40}, {.latest = 2}, {}, {}), ElementsAre(10, 20));
  EXPECT_THAT(to_prune({10, 20}, {.latest = 2}, {}, {}), IsEmpty());
}

TEST(Retention, ZeroKeepsAll) { EXPECT_THAT(to_prune({1, 2, 3}, {.latest = 0}, {}, {}), IsEmpty()); }

TEST(Retention, WhatIsInUseStays) { EXPECT_THAT(to_prune({10, 20, 30, 40}, {.latest = 2}, {}, {10}), ElementsAre(20)); }

TEST(Retention, TheBestStayBesidesTheNewest) {
  const std::map<int64_t, double> losses = {{10, 3.0}, {20, 1.0}, {30, 2.0}, {60, 0.5}};
  EXPECT_THAT(to_prune({10, 20, 30, 40, 50, 60}, {.latest = 2, .best = 1}, losses, {}), ElementsAre(10, 30, 40));
  EXPECT_THAT(to_prune({10, 20, 30, 40, 50, 60}, {.latest = 2, .best = 2}, losses, {}), ElementsAre(10, 40))
      << "one that was not evaluated is never among the best";
  EXPECT_THAT(to_prune({10, 20, 30, 40}, {.latest = 1, .best = 1}, {{10, 1.0}, {20, 1.0}}, {}), ElementsAre(10, 30))
      << "of two with the same loss the newer is better";
}

v1::CheckpointEvaluation evaluation(const std::string& data, double loss, int64_t seconds) {
  v1::CheckpointEvaluation result;
  result.set_data(data);
  result.mutable_result()->set_loss(loss);
  result.mutable_end_time()->set_seconds(seconds);
  return result;
}

TEST(Retention, OnlyLossesOnTheDataOfTheNewestEvaluationAreCompared) {
  std::map<int64_t, v1::Checkpoint> checkpoints;
  EXPECT_THAT(comparable_losses(checkpoints), IsEmpty());
  *checkpoints[10].add_evaluations() = evaluation("a", 1.0, 100);
  *checkpoints[10].add_evaluations() = evaluation("b", 5.0, 101);
  *checkpoints[20].add_evaluations() = evaluation("a", 0.5, 102);
  *checkpoints[30].add_evaluations() = evaluation("b", 4.0, 103);
  *checkpoints[30].add_evaluations() = evaluation("b", 3.0, 104);
  EXPECT_THAT(comparable_losses(checkpoints), ElementsAre(std::pair(10, 5.0), std::pair(30, 3.0)));
  *checkpoints[40].add_evaluations() = evaluation("b", std::nan(""), 105);
  EXPECT_THAT(comparable_losses(checkpoints), ElementsAre(std::pair(10, 5.0), std::pair(30, 3.0)));
}

TEST(Retention, TheNewestAndThoseInUseAreNeverPruned) {
  std::mt19937 random(3);
  for (int round = 0; round < 10'000; ++round) {
    std::set<int64_t> steps, in_use;
    for (size_t i = 0, count = 1 + random() % 8; i < count; ++i) steps.insert(random() % 50);
    for (const int64_t step : steps) {
      if (random() % 4 == 0) in_use.insert(step);
    }
    std::map<int64_t, double> losses;
    for (const int64_t step : steps) {
      if (random() % 2 == 0) losses[step] = static_cast<double>(random() % 5);
    }
    const Keep keep{.latest = static_cast<int64_t>(1 + random() % 4), .best = static_cast<int64_t>(random() % 3)};
    const auto prune = to_prune({steps.begin(), steps.end()}, keep, losses, in_use);
    EXPECT_THAT(prune, ::testing::Not(::testing::Contains(*steps.rbegin())));
    for (const int64_t step : prune) EXPECT_FALSE(in_use.contains(step));
  }
}

}  // namespace
}  // namespace qwen3::coordinator
