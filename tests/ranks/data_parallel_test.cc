// With the same local and global batch size, every data-parallel mesh computes bitwise the same float32 run.
#include <gtest/gtest.h>

#include <map>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

struct Plan {
  const char* name;
  int64_t replicate;
  int64_t shard;
  bool reshard;
  bool reduce_once = false;
  int64_t ep = 1;
};

class EveryPlan : public ::testing::TestWithParam<std::tuple<bool, Plan>> {};

TEST_P(EveryPlan, IsBitwiseTheSingleProcessRun) {
  const auto [tied, plan] = GetParam();
  constexpr int64_t kSteps = 4;
  static const Outcome single[] = {train(tiny_run(data_parallel_mesh(1, 1), false), kSteps),
                                   train(tiny_run(data_parallel_mesh(1, 1), true), kSteps)};
  spec::RunSpec run = tiny_run(data_parallel_mesh(plan.replicate, plan.shard), tied);
  run.reshard_after_forward = plan.reshard;
  run.reduce_once = plan.reduce_once;
  EXPECT_EQ(train(run, kSteps), single[tied]);
}

INSTANTIATE_TEST_SUITE_P(
    DataParallel, EveryPlan,
    ::testing::Combine(::testing::Bool(),
                       ::testing::Values(Plan{"ddp2", 2, 1, true}, Plan{"ddp4", 4, 1, true}, Plan{"fsdp2", 1, 2, true},
                                         Plan{"fsdp4", 1, 4, true}, Plan{"fsdp8", 1, 8, true},
                                         Plan{"fsdp4_keep", 1, 4, false}, Plan{"fsdp4_reduce_once", 1, 4, true, true},
                                         Plan{"hsdp2x2", 2, 2, true}, Plan{"hsdp2x2_reduce_once", 2, 2, true, true})),
    [](const auto& info) {
      return std::string(std::get<1>(info.param).name) + (std::get<0>(info.param) ? "_tied" : "_untied");
    });

struct Balance {
  const char* name;
  spec::MoeSpec moe;
};

class EveryMoePlan : public ::testing::TestWithParam<std::tuple<Balance, Plan>> {};

// Weights, moments, bias, counts, loss and auxiliary loss.
TEST_P(EveryMoePlan, IsBitwiseTheSingleProcessRun) {
  const auto& [balance, plan] = GetParam();
  constexpr int64_t kSteps = 4;
  static std::map<std::string, Outcome> singles;
  if (!singles.contains(balance.name)) {
    singles[balance.name] = train(tiny_moe_run(data_parallel_mesh(1, 1), balance.moe), kSteps);
  }
  spec::Mesh mesh = data_parallel_mesh(plan.replicate, plan.shard);
  mesh.ep = plan.ep;
  EXPECT_EQ(train(tiny_moe_run(mesh, balance.moe), kSteps), singles[balance.name]);
}

// Coefficients large enough to change the choice of experts within four steps.
INSTANTIATE_TEST_SUITE_P(
    MixtureOfExperts, EveryMoePlan,
    ::testing::Combine(::testing::Values(Balance{"bias", {.load_balance_coeff = 0.02}},
                                         Balance{"aux_microbatch", {.load_balance_coeff = 0.02, .aux_loss_coeff = 0.1}},
                                         Balance{"aux_global_batch",
                                                 {.expert_bias = false,
                                                  .aux_loss_coeff = 0.1,
                                                  .aux_loss_scope = spec::MoeSpec::AuxLossScope::kGlobalBatch}}),
                       ::testing::Values(Plan{"ddp2", 2, 1, true}, Plan{"fsdp2", 1, 2, true}, Plan{"fsdp4", 1, 4, true},
                                         Plan{"hsdp2x2", 2, 2, true}, Plan{"ep2", 1, 2, true, false, 2},
                                         Plan{"fsdp4_ep2", 1, 4, true, false, 2},
                                         Plan{"hsdp2x2_ep2", 2, 2, true, false, 2})),
    [](const auto& info) { return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param).name; });

TEST(SingleProcess, BalanceChangesAMixtureOfExperts) {  // or the test above could not fail
  const spec::Mesh mesh = data_parallel_mesh(1, 1);
  const Outcome none = train(tiny_moe_run(mesh, {.expert_bias = false}), 4);
  const Outcome bias = train(tiny_moe_run(mesh, {.load_balance_coeff = 0.02}), 4);
  const Outcome frozen = train(tiny_moe_run(mesh, {.expert_bias_update = false, .load_balance_coeff = 0.02}), 4);
  const Outcome loss = train(tiny_moe_run(mesh, {.expert_bias = false, .aux_loss_coeff = 0.1}), 4);
  EXPECT_EQ(none.losses[0], bias.losses[0]);  // losses[1] is the first auxiliary loss: 0
  EXPECT_NE(none.losses[6], bias.losses[6]);
  EXPECT_EQ(none.losses, frozen.losses);
  EXPECT_NE(none.losses[6], loss.losses[6]);
}

TEST(SingleProcess, LearnsAndRepeatsItself) {
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), true);
  const Outcome first = train(run, 10);
  EXPECT_EQ(train(run, 10), first);
  EXPECT_LT(std::strtod(first.losses.back().c_str(), nullptr), std::strtod(first.losses.front().c_str(), nullptr));
}

}  // namespace
}  // namespace qwen3::testing
