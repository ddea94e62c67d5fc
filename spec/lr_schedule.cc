#include "spec/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qwen3::spec {
namespace {

double decayed(LrScheduleSpec::Decay decay, double progress) {
  switch (decay) {
    case LrScheduleSpec::Decay::kLinear:
      return 1 - progress;
    case LrScheduleSpec::Decay::kSqrt:
      return 1 - std::sqrt(progress);
    case LrScheduleSpec::Decay::kCosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  return 1;
}

}  // namespace

double lr_factor(const LrScheduleSpec& schedule, int64_t step) {
  if (step <= schedule.warmup_steps) return static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  const int64_t into_decay = step - (schedule.total_steps + 1 - schedule.decay_steps);
  if (schedule.decay_steps == 0 || into_decay <= 0) return 1;
  const double progress = std::min(1.0, static_cast<double>(into_decay) / static_cast<double>(schedule.decay_steps));
  return schedule.min_factor + (1 - schedule.min_factor) * decayed(schedule.decay, progress);
}

}  // namespace qwen3::spec
