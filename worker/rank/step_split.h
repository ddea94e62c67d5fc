// The rank's timeline as the split of a step that is reported.
#pragma once
#include <cstdint>

#include "parallel/timeline.h"
#include "worker/rank/metrics/step_metrics.h"

namespace qwen3::rank {

class StepSplits {
 public:
  // Of the step that has just ended on `timeline`. Once per step.
  StepSplit add(const parallel::Timeline& timeline);
  const StepSplit& mean() const { return mean_; }  // of all that were added

 private:
  StepSplit mean_;
  int64_t steps_ = 0;
};

}  // namespace qwen3::rank
