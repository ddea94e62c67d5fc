// Every way to route and to balance under tensor and expert parallelism is the run of one process, in float64: every
// order of additions then differs by rounding of 2^-53, accumulated over five AdamW steps. The plan matrix
// (tests/plans) holds one way on all meshes.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

using spec::MoeSpec;

double value(const std::string& hex) { return std::strtod(hex.c_str(), nullptr); }

struct Variant {
  const char* name;
  MoeSpec moe;
};
struct Plan {
  const char* name;
  int64_t shard, tp, ep;
  bool sequence_parallel = true;
};

spec::RunSpec run_of(const MoeSpec& moe, const Plan& plan) {
  spec::RunSpec run = tiny_moe_run({.degrees = {1, 1, plan.shard, 1, plan.tp}, .ep = plan.ep}, moe);
  run.ordered = false;
  run.precision = spec::Precision::kFloat64;
  run.sequence_parallel = plan.sequence_parallel;
  return run;
}

class EveryVariantAndPlan : public ::testing::TestWithParam<std::tuple<Variant, Plan>> {};

TEST_P(EveryVariantAndPlan, IsTheSingleProcessRun) {
  const auto& [variant, plan] = GetParam();
  constexpr int64_t kSteps = 5;
  static std::map<std::string, Outcome> singles;
  if (!singles.contains(variant.name)) singles[variant.name] = train(run_of(variant.moe, {"one", 1, 1, 1}), kSteps);
  const Outcome &single = singles[variant.name], outcome = train(run_of(variant.moe, plan), kSteps);
  ASSERT_EQ(outcome.losses.size(), single.losses.size());  // auxiliary losses are among them
  ASSERT_EQ(outcome.norms.size(), single.norms.size());
  for (size_t i = 0; i < single.losses.size(); ++i) {
    EXPECT_NEAR(value(outcome.losses[i]), value(single.losses[i]), 1e-11 * value(single.losses[i])) << i;
  }
  for (size_t i = 0; i < single.norms.size(); ++i) {
    EXPECT_NEAR(value(outcome.norms[i]), value(single.norms[i]), 1e-11 * value(single.norms[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Moe, EveryVariantAndPlan,
    ::testing::Combine(::testing::Values(Variant{"no_balance", {.expert_bias = false}},
                                         Variant{"global_batch",
                                                 {.expert_bias = false,
                                                  .aux_loss_coeff = 0.1,
                                                  .aux_loss_scope = MoeSpec::AuxLossScope::kGlobalBatch}},
                                         Variant{"hf_exact",
                                                 {.router = MoeSpec::Router::kHfExact, .load_balance_coeff = 0.02}},
                                         Variant{"balanced", {.aux_loss_coeff = 0.1, .force_load_balance = true}}),
                       ::testing::Values(Plan{"tp2", 1, 2, 1}, Plan{"tp2_whole", 1, 2, 1, false},
                                         Plan{"fsdp2_ep2", 2, 1, 2}, Plan{"tp2_ep2", 1, 2, 2},
                                         Plan{"tp2_ep2_whole", 1, 2, 2, false}, Plan{"fsdp2_tp2_ep2", 2, 2, 2})),
    [](const auto& info) { return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param).name; });

}  // namespace
}  // namespace qwen3::testing
