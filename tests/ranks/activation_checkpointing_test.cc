// Every mode of activation checkpointing on every data-parallel mesh computes bitwise the run of one process that keeps
// everything: weights, moments, the experts' bias and counts, losses and gradient norms. With tensor or expert
// parallelism it is bitwise the run on the same mesh that keeps everything.
#include <gtest/gtest.h>

#include <map>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

using Mode = spec::ActivationCheckpoint::Mode;

struct Model {
  const char* name;
  spec::RunSpec (*run)(const spec::Mesh& mesh);
};
struct Recompute {
  const char* name;
  spec::ActivationCheckpoint spec;
};
struct Plan {
  const char* name;
  int64_t replicate;
  int64_t shard;
  bool reshard;
};

class EveryModeAndPlan : public ::testing::TestWithParam<std::tuple<Model, Recompute, Plan>> {};

TEST_P(EveryModeAndPlan, IsBitwiseTheSingleProcessThatKeepsEverything) {
  const auto& [model, recompute, plan] = GetParam();
  constexpr int64_t kSteps = 2;  // the second sees the bias and the counts that the first left
  static std::map<std::string, Outcome> singles;
  if (!singles.contains(model.name)) {
    singles[model.name] = train(model.run(data_parallel_mesh(1, 1)), kSteps);
  }
  spec::RunSpec run = model.run(data_parallel_mesh(plan.replicate, plan.shard));
  run.reshard_after_forward = plan.reshard;
  run.activation_checkpoint = recompute.spec;
  EXPECT_EQ(train(run, kSteps), singles[model.name]);
}

class EveryModeOnOneMesh : public ::testing::TestWithParam<std::tuple<bool, Recompute, spec::Mesh>> {};

TEST_P(EveryModeOnOneMesh, IsBitwiseTheRunThatKeepsEverything) {
  const auto& [moe, recompute, mesh] = GetParam();
  spec::RunSpec run =
      moe ? tiny_moe_run(mesh, {.load_balance_coeff = 0.02, .aux_loss_coeff = 0.1}) : tiny_run(mesh, /*tied=*/false);
  run.async_tensor_parallel = moe && mesh.degree(spec::Axis::kTp) > 1;
  const Outcome all = train(run, 2);
  run.activation_checkpoint = recompute.spec;
  EXPECT_EQ(train(run, 2), all);
}

const auto kModes = ::testing::Values(
    Recompute{"full", {.mode = Mode::kFull}}, Recompute{"every_second", {.mode = Mode::kSelective}},
    Recompute{"attention_kept", {.mode = Mode::kSelective, .every_nth_block = {}, .kept = {"attention"}}},
    Recompute{"budget", {.mode = Mode::kMemoryBudget, .memory_budget = 0.6}});

spec::Mesh mesh_of(int64_t shard, int64_t tp, int64_t ep) { return {.degrees = {1, 1, shard, 1, tp}, .ep = ep}; }

std::string name_of(const ::testing::TestParamInfo<EveryModeOnOneMesh::ParamType>& info) {
  const auto& [moe, recompute, mesh] = info.param;
  return std::string(moe ? "moe_" : "dense_") + recompute.name + "_shard" +
         std::to_string(mesh.degree(spec::Axis::kDpShard)) + "_tp" + std::to_string(mesh.degree(spec::Axis::kTp)) +
         "_ep" + std::to_string(mesh.ep);
}

INSTANTIATE_TEST_SUITE_P(Dense, EveryModeOnOneMesh,
                         ::testing::Combine(::testing::Values(false), kModes, ::testing::Values(mesh_of(2, 2, 1))),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Moe, EveryModeOnOneMesh,
                         ::testing::Combine(::testing::Values(true), kModes,
                                            ::testing::Values(mesh_of(1, 2, 1), mesh_of(2, 1, 2), mesh_of(1, 2, 2))),
                         name_of);

const auto kModels = ::testing::Values(
    Model{"tied", [](const spec::Mesh& mesh) { return tiny_run(mesh, true); }},
    Model{"untied", [](const spec::Mesh& mesh) { return tiny_run(mesh, false); }},
    Model{"moe_bias", [](const spec::Mesh& mesh) { return tiny_moe_run(mesh, {.load_balance_coeff = 0.02}); }},
    Model{
        "moe_aux",
        [](const spec::Mesh& mesh) { return tiny_moe_run(mesh, {.load_balance_coeff = 0.02, .aux_loss_coeff = 0.1}); }},
    Model{"moe_aux_global", [](const spec::Mesh& mesh) {
            return tiny_moe_run(mesh, {.expert_bias = false,
                                       .aux_loss_coeff = 0.1,
                                       .aux_loss_scope = spec::MoeSpec::AuxLossScope::kGlobalBatch});
          }});

INSTANTIATE_TEST_SUITE_P(ActivationCheckpointing, EveryModeAndPlan,
                         ::testing::Combine(kModels, kModes,
                                            ::testing::Values(Plan{"one", 1, 1, true}, Plan{"fsdp2", 1, 2, true},
                                                              Plan{"fsdp4_keep", 1, 4, false},
                                                              Plan{"hsdp2x2", 2, 2, true})),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param).name + "_" +
                                  std::get<2>(info.param).name;
                         });

}  // namespace
}  // namespace qwen3::testing
