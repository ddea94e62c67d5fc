// With the same local and global batch size, every data-parallel mesh computes bitwise the same float32 run.
#include <gtest/gtest.h>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

struct Plan {
  const char* name;
  int64_t replicate;
  int64_t shard;
  bool reshard;
};

class EveryPlan : public ::testing::TestWithParam<std::tuple<bool, Plan>> {};

TEST_P(EveryPlan, IsBitwiseTheSingleProcessRun) {
  const auto [tied, plan] = GetParam();
  constexpr int64_t kSteps = 4;
  static const Outcome single[] = {train(tiny_run(data_parallel_mesh(1, 1), false), kSteps),
                                   train(tiny_run(data_parallel_mesh(1, 1), true), kSteps)};
  spec::RunSpec run = tiny_run(data_parallel_mesh(plan.replicate, plan.shard), tied);
  run.reshard_after_forward = plan.reshard;
  EXPECT_EQ(train(run, kSteps), single[tied]);
}

INSTANTIATE_TEST_SUITE_P(
    DataParallel, EveryPlan,
    ::testing::Combine(::testing::Bool(),
                       ::testing::Values(Plan{"ddp2", 2, 1, true}, Plan{"ddp4", 4, 1, true}, Plan{"fsdp2", 1, 2, true},
                                         Plan{"fsdp4", 1, 4, true}, Plan{"fsdp8", 1, 8, true},
                                         Plan{"fsdp4_keep", 1, 4, false}, Plan{"hsdp2x2", 2, 2, true})),
    [](const auto& info) {
      return std::string(std::get<1>(info.param).name) + (std::get<0>(info.param) ? "_tied" : "_untied");
    });

TEST(SingleProcess, LearnsAndRepeatsItself) {
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), true);
  const Outcome first = train(run, 10);
  EXPECT_EQ(train(run, 10), first);
  EXPECT_LT(std::strtod(first.losses.back().c_str(), nullptr), std::strtod(first.losses.front().c_str(), nullptr));
}

}  // namespace
}  // namespace qwen3::testing
