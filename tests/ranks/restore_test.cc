// A run that is cut and goes on, on the same or another mesh, is bitwise the run that was not cut.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "checkpoint/manifest.h"
#include "tests/ranks/checkpointed_run.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

class Restore : public ::testing::Test {
 protected:
  std::string run_steps(const spec::Mesh& mesh, int64_t from, int64_t to, const std::string& restore) {
    return run_steps(tiny_run(mesh, /*tied=*/true), from, to, restore);
  }
  std::string run_steps(const spec::RunSpec& run, int64_t from, int64_t to, const std::string& restore) {
    return runs_.run_steps(run, from, to, restore);
  }
  static std::string digest(const std::string& folder) { return CheckpointedRuns::digest(folder); }

  CheckpointedRuns runs_;
};

TEST_F(Restore, AnyMeshContinuesAnyOther) {
  const std::string whole = run_steps(data_parallel_mesh(1, 1), 0, 6, "");
  const spec::Mesh meshes[] = {data_parallel_mesh(1, 1), data_parallel_mesh(1, 2), data_parallel_mesh(1, 4),
                               data_parallel_mesh(2, 1), data_parallel_mesh(2, 2)};
  for (const spec::Mesh& first : meshes) {
    const std::string cut = run_steps(first, 0, 3, "");
    for (const spec::Mesh& second : meshes) {
      SCOPED_TRACE(::testing::PrintToString(first.degrees) + " then " + ::testing::PrintToString(second.degrees));
      EXPECT_EQ(digest(run_steps(second, 3, 6, cut)), digest(whole));
    }
  }
}

// The bias and, for the auxiliary loss, the counts of the step before are part of the state.
TEST_F(Restore, AMixtureOfExpertsContinuesOnAnyMesh) {
  const spec::MoeSpec moe = {
      .load_balance_coeff = 0.02, .aux_loss_coeff = 0.1, .aux_loss_scope = spec::MoeSpec::AuxLossScope::kGlobalBatch};
  const auto on = [&](int64_t replicate, int64_t shard) {
    return tiny_moe_run(data_parallel_mesh(replicate, shard), moe);
  };
  const std::string whole = run_steps(on(1, 1), 0, 6, "");
  const auto tensors = checkpoint::read_manifest(whole)->tensors;
  EXPECT_EQ(tensors.at("model.layers.2.moe.expert_bias").dtype, checkpoint::Dtype::kFloat32);
  EXPECT_EQ(tensors.at("model.layers.2.moe.expert_counts").dtype, checkpoint::Dtype::kInt64);
  EXPECT_FALSE(tensors.contains("exp_avg.layers.2.moe.expert_bias"));
  const std::string one = run_steps(on(1, 1), 0, 3, ""), four = run_steps(on(2, 2), 0, 3, "");
  EXPECT_EQ(digest(one), digest(four));
  EXPECT_EQ(digest(run_steps(on(1, 1), 3, 6, four)), digest(whole));
  EXPECT_EQ(digest(run_steps(on(1, 4), 3, 6, one)), digest(whole));
  EXPECT_EQ(digest(run_steps(on(2, 1), 3, 6, four)), digest(whole));
}

TEST_F(Restore, AWarmStartTakesOrLeavesTheExpertBias) {
  const spec::RunSpec run = tiny_moe_run(data_parallel_mesh(1, 1), {.load_balance_coeff = 0.02});
  const std::string trained = run_steps(run, 0, 1, "");
  spec::RunSpec without = run;
  without.moe.expert_bias = false;
  const std::string biasless = run_steps(without, 0, 1, "");
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& devices) {
    rank::Trainer trainer(run, devices, {std::make_shared<SyntheticText>(50, 24, 101), nullptr});
    rank::Checkpointer checkpointer(run, devices, trainer.model(), {runs_.folder(), 9, "{}"}, nullptr);
    const at::Tensor& bias = trainer.model().buffers().front().value;
    checkpointer.restore(trained, {.training_state = false, .expert_bias = false});
    EXPECT_EQ(bias.abs().max().item<float>(), 0);
    checkpointer.restore(trained, {.training_state = false});
    EXPECT_GE(bias.abs().max().item<float>(), 0.01);  // one step
    checkpointer.restore(biasless, {.training_state = false, .expert_bias = false});
    try {
      checkpointer.restore(biasless, {.training_state = false});
      ADD_FAILURE() << "accepted";
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find("has no tensor model.layers.0.moe.expert_bias; expert_bias_load = false"),
                std::string::npos)
          << e.what();
    }
  });
}

TEST_F(Restore, ALostMomentWouldShow) {  // or the test above could not fail
  const std::string cut = run_steps(data_parallel_mesh(1, 1), 0, 3, "");
  const std::string restarted = run_steps(data_parallel_mesh(1, 1), 0, 3, "");
  EXPECT_EQ(digest(cut), digest(restarted));
  EXPECT_NE(digest(run_steps(data_parallel_mesh(1, 1), 3, 6, cut)), digest(cut));
}

TEST_F(Restore, AnotherModelIsRefusedByTensorAndShape) {
  const std::string cut = run_steps(data_parallel_mesh(1, 1), 0, 1, "");
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
  run.model.ffn_hidden = 96;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& devices) {
    rank::Trainer trainer(run, devices, {std::make_shared<SyntheticText>(50, 24, 101), nullptr});
    rank::Checkpointer checkpointer(run, devices, trainer.model(), {runs_.folder(), 9, "{}"}, nullptr);
    try {
      checkpointer.restore(cut, {.training_state = false});
      ADD_FAILURE() << "accepted";
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find("feed_forward.w1.weight has shape"), std::string::npos) << e.what();
    }
  });
}

}  // namespace
}  // namespace qwen3::testing
