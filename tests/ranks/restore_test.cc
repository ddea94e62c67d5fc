// A run that is cut and goes on, on the same or another mesh, is bitwise the run that was not cut.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/reader.h"
#include "tests/checkpoint/scene.h"
#include "tests/ranks/checkpointed_run.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

using ::testing::HasSubstr;

class Restore : public ::testing::Test {
 protected:
  std::string run_steps(const spec::Mesh& mesh, int64_t from, int64_t to, const std::string& restore) {
    return run_steps(tiny_run(mesh, /*tied=*/true), from, to, restore);
  }
  std::string run_steps(const spec::RunSpec& run, int64_t from, int64_t to, const std::string& restore) {
    return runs_.run_steps(run, from, to, restore);
  }
  // What a start of `run`, of one rank, with the weights in the folder throws; empty: nothing.
  std::string warm_start_error(const spec::RunSpec& run, const std::string& folder) {
    std::string error;
    run_ranks(run.mesh, [&](const parallel::DeviceMesh& devices) {
      rank::Trainer trainer(run, devices, {text_of(run), nullptr});
      rank::Checkpointer checkpointer(run, devices, trainer.model(), {runs_.folder(), 9, "{}"}, nullptr);
      try {
        checkpointer.restore(folder, {.training_state = false});
      } catch (const std::runtime_error& e) {
        error = e.what();
      }
    });
    return error;
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
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
  const std::string cut = run_steps(run, 0, 1, "");
  run.model.ffn_hidden = 96;
  EXPECT_THAT(warm_start_error(run, cut), HasSubstr("feed_forward.w1.weight has shape"));
}

// Most of these fit by names and shapes: without an error they would be read as what they are not.
TEST_F(Restore, WeightsThatMeanAnotherModelAreRefusedByFieldWithBothValues) {
  const spec::RunSpec dense = tiny_run(data_parallel_mesh(1, 1), /*tied=*/false);
  const spec::RunSpec mixture = tiny_moe_run(data_parallel_mesh(1, 1), {});
  const std::string dense_folder = run_steps(dense, 0, 1, ""), mixture_folder = run_steps(mixture, 0, 1, "");
  using Change = std::function<void(spec::ModelShape&)>;
  const auto error = [&](spec::RunSpec run, const Change& change) {
    const std::string& folder = run.model.experts > 0 ? mixture_folder : dense_folder;
    change(run.model);
    return warm_start_error(run, folder);
  };
  EXPECT_THAT(error(dense, [](spec::ModelShape& m) { m.layers = 2; }),
              HasSubstr("checkpoint " + dense_folder + ": model: layers is 3, the run wants 2"));
  EXPECT_THAT(error(dense, [](spec::ModelShape& m) { m.heads = 8, m.kv_heads = 4, m.head_dim = 8; }),
              HasSubstr("model: heads is 4, the run wants 8"));
  EXPECT_THAT(error(dense, [](spec::ModelShape& m) { m.kv_heads = 4; }), HasSubstr("kv_heads is 2, the run wants 4"));
  EXPECT_THAT(error(dense, [](spec::ModelShape& m) { m.head_dim = 8; }), HasSubstr("head_dim is 16, the run wants 8"));
  EXPECT_THAT(error(dense, [](spec::ModelShape& m) { m.tied = true; }), HasSubstr("tied is false, the run wants true"));
  EXPECT_THAT(error(mixture, [](spec::ModelShape& m) { m.experts = 4; }), HasSubstr("experts is 6, the run wants 4"));
  EXPECT_THAT(error(mixture, [](spec::ModelShape& m) { m.experts_per_token = 1; }),
              HasSubstr("experts_per_token is 2, the run wants 1"));
  EXPECT_THAT(error(mixture, [](spec::ModelShape& m) { m.norm_topk_prob = false; }),
              HasSubstr("norm_topk_prob is true, the run wants false"));
  // A warm start for longer sequences.
  EXPECT_EQ(error(dense,
                  [](spec::ModelShape& m) {
                    m.flavor = "longer";
                    m.max_seq_len = 256;
                    m.rope_theta = 5e6;
                    m.yarn.emplace().factor = 4;
                  }),
            "");
}

// Written by one rank into one file, of chunks that are small beside a tensor.
TEST_F(Restore, ARankReadsWhatItKeepsAndLittleElse) {
  const std::string folder = run_steps(data_parallel_mesh(1, 1), 0, 1, "");
  checkpoint::testing::cut_into_chunks(folder, /*chunk_bytes=*/256);
  const auto whole = static_cast<int64_t>(std::filesystem::file_size(folder + "/rank-0.safetensors"));
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 2), /*tied=*/true);
  std::atomic<bool> counted = true;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& devices) {
    rank::Trainer trainer(run, devices, {text_of(run), nullptr});
    rank::Checkpointer checkpointer(run, devices, trainer.model(), {runs_.folder(), 9, "{}"}, nullptr);
    const auto read_by = [](const auto& action) {
      const int64_t before = checkpoint::testing::bytes_read();
      action();
      return checkpoint::testing::bytes_read() - before;
    };
    const int64_t of_manifest = read_by([&] { EXPECT_TRUE(checkpoint::Reader::open(folder).ok()); });
    const int64_t of_files = read_by([&] { checkpointer.restore(folder, {}); }) - of_manifest;
    int64_t kept = 0;  // weights and two moments, float32
    for (const parallel::ShardedTensor* tensor : trainer.model().tensors()) kept += 3 * 4 * tensor->numel();
    if (of_files < kept) {
      counted = false;
      return;
    }
    EXPECT_LT(of_files, whole * 3 / 4) << "it keeps " << kept;  // the rest: header, chunks at the ends of the shards
  });
  if (!counted) GTEST_SKIP() << "this kernel does not count what is read";
}

struct FastRun {
  const char* name;
  spec::Mesh mesh;
  spec::Precision precision;
};

class Continuation : public Restore, public ::testing::WithParamInterface<FastRun> {};

// On the same mesh also a run that is not ordered repeats itself. With bfloat16 shards what is computed with is a copy
// of the weights, which a restore must make again.
TEST_P(Continuation, IsBitwiseTheRunThatWasNotCut) {
  spec::RunSpec run = tiny_run(GetParam().mesh, /*tied=*/false);
  run.ordered = false;
  run.precision = GetParam().precision;
  const std::string whole = run_steps(run, 0, 4, "");
  const std::vector<double> wanted = runs_.losses();
  const std::string cut = run_steps(run, 0, 2, "");
  std::vector<double> losses = runs_.losses();
  const std::string continued = run_steps(run, 2, 4, cut);
  losses.insert(losses.end(), runs_.losses().begin(), runs_.losses().end());
  EXPECT_EQ(losses, wanted);
  EXPECT_EQ(digest(continued), digest(whole));
}

INSTANTIATE_TEST_SUITE_P(
    Fast, Continuation,
    ::testing::Values(FastRun{"bfloat16_shard2", data_parallel_mesh(1, 2), spec::Precision::kBfloat16},
                      FastRun{"bfloat16_one_rank", data_parallel_mesh(1, 1), spec::Precision::kBfloat16},
                      FastRun{"float32_tp2", {.degrees = {1, 1, 1, 1, 2}}, spec::Precision::kFloat32}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace qwen3::testing
