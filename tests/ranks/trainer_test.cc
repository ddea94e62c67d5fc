// The edges of a step: no clipping, no gradient at all, and a gradient that is not a number.
#include "worker/rank/trainer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string_view>
#include <utility>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/training_state.h"

namespace qwen3::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Trainer, AMaxNormOfZeroClipsNothing) {
  const auto with = [](double max_norm) {
    spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
    run.max_norm = max_norm;
    return train(run, 2);
  };
  const Outcome unclipped = with(1e30);  // above every norm
  EXPECT_EQ(with(0), unclipped);
  EXPECT_NE(with(1e-3).state_digest, unclipped.state_digest);  // or the line above could not fail
}

// Spoils the first exchange over dp_shard: it brings gradients of the last unit, norm.weight's first.
void spoil_first_exchange(parallel::Instruments& instruments) {
  instruments.spoil = [seen = false](std::string_view axis, std::string_view operation,
                                     const at::Tensor& received) mutable {
    if (axis != "dp_shard" || operation != "all_to_all" || std::exchange(seen, true)) return;
    received.narrow(1, 0, 1).fill_(NAN);  // [ranks, elements]
  };
}

// The state of this one also has a bias and counts, which a step changes too.
TEST(Trainer, AGradientThatIsNotANumberIsNamedAndNothingOfTheStepIsApplied) {
  const spec::MoeSpec moe = {
      .load_balance_coeff = 0.02, .aux_loss_coeff = 0.1, .aux_loss_scope = spec::MoeSpec::AuxLossScope::kGlobalBatch};
  const spec::RunSpec run = tiny_moe_run(data_parallel_mesh(1, 2), moe);
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {text_of(run), nullptr});
    trainer.step(1, {});
    const std::string before = rank::state_digest(trainer.model());
    if (mesh.rank() == 1) spoil_first_exchange(mesh.instruments());
    try {
      trainer.step(2, {});
      ADD_FAILURE() << "the step was applied";
    } catch (const rank::NonFiniteError& e) {
      EXPECT_EQ(e.step, 2);
      EXPECT_EQ(e.rank, 1);
      EXPECT_THAT(e.what(), AllOf(StartsWith("step 2: the gradient of norm.weight on rank 1 is not finite (loss "),
                                  HasSubstr("nan); nothing of the step was applied")));
    }
    EXPECT_EQ(rank::state_digest(trainer.model()), before);
  });
}

// Text of which nothing is to be learnt, as of prompts alone.
class Unlabelled : public SyntheticText {
 public:
  using SyntheticText::SyntheticText;
  data::Sample at(int64_t index) const override {
    data::Sample sample = SyntheticText::at(index);
    std::fill(sample.labels.begin(), sample.labels.end(), -100);
    return sample;
  }
};

TEST(Trainer, AStepWithoutAnyGradientDividesNothingByZero) {
  for (const double max_norm : {1.0, 0.0}) {
    spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
    run.max_norm = max_norm;
    run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
      const auto text = std::make_shared<Unlabelled>(/*sequences=*/50, run.data.seq_len, run.model.vocab);
      rank::Trainer trainer(run, mesh, {text, nullptr});
      const rank::StepMetrics metrics = trainer.step(1, {}).metrics;
      EXPECT_EQ(metrics.valid_tokens, 0);
      EXPECT_EQ(metrics.loss, 0);
      EXPECT_EQ(metrics.grad_norm, 0);
      for (const parallel::ShardedTensor* tensor : trainer.model().tensors()) {
        EXPECT_TRUE(tensor->master.isfinite().all().item<bool>()) << tensor->name;
        EXPECT_EQ(tensor->exp_avg.abs().max().item<float>(), 0) << tensor->name;
        EXPECT_EQ(tensor->exp_avg_sq.abs().max().item<float>(), 0) << tensor->name;
      }
    });
  }
}

}  // namespace
}  // namespace qwen3::testing
