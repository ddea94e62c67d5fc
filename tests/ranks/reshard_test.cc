// A checkpoint written on any mesh is the same state on any other: thirty random pairs of unlike meshes, no pair twice,
// with every axis that cuts a weight, dense and a mixture of experts. Where both meshes compute bitwise what one
// process does, so does the run that goes on.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/ranks/checkpointed_run.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

struct Plan {
  int64_t replicate, shard, tp, ep;
  spec::Mesh mesh() const { return {.degrees = {1, replicate, shard, 1, tp}, .ep = ep}; }
  std::string name() const {
    return "dp_replicate " + std::to_string(replicate) + ", dp_shard " + std::to_string(shard) + ", tp " +
           std::to_string(tp) + ", ep " + std::to_string(ep);
  }
};

constexpr Plan kDense[] = {{1, 1, 1, 1}, {1, 2, 1, 1}, {1, 4, 1, 1}, {2, 2, 1, 1},
                           {1, 1, 2, 1}, {1, 2, 2, 1}, {2, 1, 2, 1}};
constexpr Plan kMoe[] = {{1, 1, 1, 1}, {1, 2, 1, 1}, {1, 4, 1, 1}, {2, 2, 1, 1}, {1, 2, 1, 2}, {1, 4, 1, 2},
                         {2, 2, 1, 2}, {1, 1, 2, 1}, {1, 2, 2, 1}, {1, 1, 2, 2}, {1, 2, 2, 2}};

spec::RunSpec run_of(const Plan& plan, bool moe) {
  return moe ? tiny_moe_run(plan.mesh(), {.load_balance_coeff = 0.02}) : tiny_run(plan.mesh(), /*tied=*/true);
}

// `count` of the ordered pairs of unlike numbers below `size`, each at most once.
std::vector<std::pair<size_t, size_t>> random_pairs(size_t size, size_t count, uint32_t seed) {
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t first = 0; first < size; ++first) {
    for (size_t second = 0; second < size; ++second) {
      if (first != second) pairs.emplace_back(first, second);
    }
  }
  std::mt19937 random(seed);
  for (size_t i = 0; i < count; ++i) std::swap(pairs.at(i), pairs[i + random() % (pairs.size() - i)]);
  pairs.resize(count);
  return pairs;
}

class Reshard : public ::testing::TestWithParam<bool> {};

TEST_P(Reshard, FifteenRandomPairsHoldTheSameState) {
  const bool moe = GetParam();
  const std::span<const Plan> plans = moe ? std::span<const Plan>(kMoe) : std::span<const Plan>(kDense);
  CheckpointedRuns runs;
  const std::string whole = runs.run_steps(run_of(plans[0], moe), 0, 2, "");
  std::map<size_t, std::string> written;  // by plan: its checkpoint of step 1
  const uint32_t seed = moe ? 1 : 2;
  for (const auto& [first, second] : random_pairs(plans.size(), 15, seed)) {
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + plans[first].name() + "; then " + plans[second].name());
    std::string& cut = written[first];
    if (cut.empty()) cut = runs.run_steps(run_of(plans[first], moe), 0, 1, "");
    const std::string copy = runs.run_steps(run_of(plans[second], moe), 1, 1, cut);
    EXPECT_EQ(CheckpointedRuns::digest(copy), CheckpointedRuns::digest(cut));
    if (plans[first].tp > 1 || plans[second].tp > 1) continue;
    const std::string continued = runs.run_steps(run_of(plans[second], moe), 1, 2, cut);
    EXPECT_EQ(CheckpointedRuns::digest(continued), CheckpointedRuns::digest(whole));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Reshard, ::testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "mixture_of_experts" : "tied"); });

}  // namespace
}  // namespace qwen3::testing
