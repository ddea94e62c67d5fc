#include "worker/rank/step_split.h"

namespace qwen3::rank {

using parallel::Timeline;

StepSplit StepSplits::add(const Timeline& timeline) {
  StepSplit split{.compute = timeline.seconds(Timeline::kCompute),
                  .optimizer = timeline.seconds(Timeline::kOptimizer),
                  .data = timeline.seconds(Timeline::kData),
                  .other = timeline.seconds(Timeline::kOther)};
  for (size_t account = Timeline::kFirstAxis; account < timeline.accounts(); ++account) {
    if (timeline.seconds(account) > 0) split.waits[timeline.axis_name(account)] = timeline.seconds(account);
  }

  const double weight = 1.0 / static_cast<double>(++steps_);
  const auto move = [&](double& mean, double value) { mean += (value - mean) * weight; };
  move(mean_.compute, split.compute);
  move(mean_.optimizer, split.optimizer);
  move(mean_.data, split.data);
  move(mean_.other, split.other);
  for (const auto& [axis, seconds] : split.waits) mean_.waits.try_emplace(axis, 0);
  for (auto& [axis, mean] : mean_.waits) move(mean, split.waits.contains(axis) ? split.waits.at(axis) : 0);
  return split;
}

}  // namespace qwen3::rank
