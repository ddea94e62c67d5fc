// The learning rate over steps: linear warm-up, stable, decay. Pure.
#pragma once
#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::spec {

// Factor of the peak learning rate at optimizer step `step`, which counts from 1; torchtitan's formula.
// Warm-up: step / warmup_steps. Decay: the schedule is one virtual step longer than total_steps, so that the last real
// step is not 0: progress p = (step - (total_steps + 1 - decay_steps)) / decay_steps, then 1 - p (linear),
// 1 - sqrt(p) (sqrt) or (1 + cos(pi p)) / 2 (cosine), raised to the floor: min_factor + (1 - min_factor) * that.
// After total_steps the factor stays at the floor.
// REQUIRES: step >= 1, 0 <= warmup_steps, 0 <= decay_steps, warmup_steps + decay_steps <= total_steps.
double lr_factor(const LrScheduleSpec& schedule, int64_t step);

}  // namespace qwen3::spec
