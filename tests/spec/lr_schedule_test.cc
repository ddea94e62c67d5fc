#include "spec/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qwen3::spec {
namespace {

using Decay = LrScheduleSpec::Decay;

// Rounding of a handful of float64 operations.
constexpr double kRounding = 1e-15;

LrScheduleSpec schedule(Decay decay, double min_factor = 0) {
  return {.warmup_steps = 10, .total_steps = 100, .decay_steps = 20, .decay = decay, .min_factor = min_factor};
}

TEST(LrSchedule, WarmUpIsLinearAndReachesThePeakAtItsLastStep) {
  for (int64_t step = 1; step <= 10; ++step) EXPECT_DOUBLE_EQ(lr_factor(schedule(Decay::kLinear), step), step / 10.0);
}

TEST(LrSchedule, IsThePeakBetweenWarmUpAndDecay) {
  // The virtual step at the end makes the decay begin one step later: step 81 is still the peak.
  for (int64_t step = 11; step <= 81; ++step) EXPECT_EQ(lr_factor(schedule(Decay::kSqrt), step), 1.0) << step;
  EXPECT_LT(lr_factor(schedule(Decay::kSqrt), 82), 1.0);
}

TEST(LrSchedule, DecayFollowsItsClosedFormAndTheLastRealStepIsNotZero) {
  for (int64_t step = 82; step <= 100; ++step) {
    const double p = (step - 81) / 20.0;
    EXPECT_NEAR(lr_factor(schedule(Decay::kLinear), step), 1 - p, kRounding);
    EXPECT_NEAR(lr_factor(schedule(Decay::kSqrt), step), 1 - std::sqrt(p), kRounding);
    EXPECT_NEAR(lr_factor(schedule(Decay::kCosine), step), (1 + std::cos(M_PI * p)) / 2, kRounding);
  }
  EXPECT_NEAR(lr_factor(schedule(Decay::kLinear), 100), 1.0 / 20, kRounding);
}

TEST(LrSchedule, TheFloorScalesTheWholeDecay) {
  EXPECT_NEAR(lr_factor(schedule(Decay::kLinear, 0.1), 91), 0.1 + 0.9 * 0.5, kRounding);
  EXPECT_NEAR(lr_factor(schedule(Decay::kCosine, 0.1), 91), 0.1 + 0.9 * 0.5, kRounding);
}

TEST(LrSchedule, StaysAtTheFloorAfterItsEnd) {
  EXPECT_EQ(lr_factor(schedule(Decay::kLinear, 0.1), 101), 0.1);
  EXPECT_EQ(lr_factor(schedule(Decay::kSqrt), 5000), 0.0);
}

// torchtitan's Qwen3 debug run: 10 steps, warm-up 2, decay_ratio 0.8; values of its formula by hand.
TEST(LrSchedule, MatchesTorchtitansDebugRun) {
  const LrScheduleSpec debug{.warmup_steps = 2, .total_steps = 10, .decay_steps = 8};
  const double expected[] = {0.5, 1, 1, 7.0 / 8, 6.0 / 8, 5.0 / 8, 4.0 / 8, 3.0 / 8, 2.0 / 8, 1.0 / 8};
  for (int64_t step = 1; step <= 10; ++step) EXPECT_NEAR(lr_factor(debug, step), expected[step - 1], kRounding) << step;
}

TEST(LrSchedule, WithoutWarmUpOrDecayItIsAlwaysThePeak) {
  const LrScheduleSpec flat{.warmup_steps = 0, .total_steps = 5, .decay_steps = 0};
  for (int64_t step = 1; step <= 5; ++step) EXPECT_EQ(lr_factor(flat, step), 1.0);
}

}  // namespace
}  // namespace qwen3::spec
