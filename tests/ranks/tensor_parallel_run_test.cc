// Whole runs under tensor parallelism, with data and expert parallelism beside it, against one process in float64:
// every order of additions then differs by rounding of 2^-53, accumulated over five AdamW steps (design's bound:
// 1e-11).
#include <gtest/gtest.h>

#include <map>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

double value(const std::string& hex) { return std::strtod(hex.c_str(), nullptr); }

struct Plan {
  const char* name;
  int64_t replicate, shard, tp, ep;
  bool sequence_parallel = true;
  bool loss_parallel = true;
  bool async = false;
};

spec::RunSpec run_of(const Plan& plan, bool moe) {
  const spec::Mesh mesh{.degrees = {1, plan.replicate, plan.shard, 1, plan.tp}, .ep = plan.ep};
  spec::RunSpec run =
      moe ? tiny_moe_run(mesh, {.load_balance_coeff = 0.02, .aux_loss_coeff = 0.1}) : tiny_run(mesh, true);
  run.ordered = false;
  run.precision = spec::Precision::kFloat64;
  run.sequence_parallel = plan.sequence_parallel;
  run.loss_parallel = plan.loss_parallel;
  run.async_tensor_parallel = plan.async;
  return run;
}

const Outcome& single_process(bool moe) {
  static std::map<bool, Outcome> runs;
  if (!runs.contains(moe)) runs[moe] = train(run_of({"one", 1, 1, 1, 1}, moe), 5);
  return runs[moe];
}

class EveryPlan : public ::testing::TestWithParam<std::tuple<bool, Plan>> {};

TEST_P(EveryPlan, IsTheSingleProcessRun) {
  const auto& [moe, plan] = GetParam();
  const Outcome &single = single_process(moe), outcome = train(run_of(plan, moe), 5);
  for (size_t i = 0; i < single.losses.size(); ++i) {
    EXPECT_NEAR(value(outcome.losses[i]), value(single.losses[i]), 1e-11 * value(single.losses[i])) << i;
  }
  for (size_t i = 0; i < single.norms.size(); ++i) {
    EXPECT_NEAR(value(outcome.norms[i]), value(single.norms[i]), 1e-11 * value(single.norms[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Dense, EveryPlan,
    ::testing::Combine(::testing::Values(false),
                       ::testing::Values(Plan{"tp2", 1, 1, 2, 1}, Plan{"tp2_whole", 1, 1, 2, 1, false},
                                         Plan{"fsdp2_tp2", 1, 2, 2, 1}, Plan{"hsdp2x2_tp2", 2, 2, 2, 1},
                                         Plan{"fsdp2_tp2_gathered_logits", 1, 2, 2, 1, true, false},
                                         Plan{"fsdp2_tp2_async", 1, 2, 2, 1, true, true, true})),
    [](const auto& info) { return std::string(std::get<1>(info.param).name); });
INSTANTIATE_TEST_SUITE_P(
    Moe, EveryPlan,
    ::testing::Combine(::testing::Values(true),
                       ::testing::Values(Plan{"tp2", 1, 1, 2, 1}, Plan{"tp2_whole", 1, 1, 2, 1, false},
                                         Plan{"tp2_ep2", 1, 1, 2, 2}, Plan{"tp2_ep2_whole", 1, 1, 2, 2, false},
                                         Plan{"fsdp2_tp2_ep2", 1, 2, 2, 2}, Plan{"fsdp2_tp2", 1, 2, 2, 1},
                                         Plan{"fsdp2_tp2_async", 1, 2, 2, 1, true, true, true})),
    [](const auto& info) { return std::string(std::get<1>(info.param).name); });

}  // namespace
}  // namespace qwen3::testing
