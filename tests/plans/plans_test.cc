// Any parallel plan gives the run of one process (design: docs/parallelism.md, "Plan equivalence").
// A choice of plans in which all pairs of choices meet, and a float64 plan of every mesh, since only float64 proves a
// plan that splits sums. QWEN3_PLANS=all adds the full matrix: every model, mesh, recomputation, accumulation and
// dtype, ordered or fast; and each unusual choice on every mesh in every dtype.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <set>

#include "spec/layout.h"
#include "spec/rules.h"
#include "tests/plans/train_plan.h"

namespace qwen3::testing {
namespace {

using ::testing::IsEmpty;

bool in_the_full_matrix(const Plan& plan) {
  const bool accumulates = plan.microbatches > plan.replicate * plan.shard;
  const int unusual = unusual_choices(plan);
  return unusual == 0 || (unusual == 1 && accumulates && plan.recompute == Plan::Recompute::kNone);
}

std::string mesh_name(const Plan& plan) {
  return "replicate" + std::to_string(plan.replicate) + "_shard" + std::to_string(plan.shard) + "_tp" +
         std::to_string(plan.tp) + "_ep" + std::to_string(plan.ep);
}

const std::vector<Plan>& plans() {
  static const std::vector<Plan> plans = [] {
    const char* wanted = std::getenv("QWEN3_PLANS");
    const bool all = wanted != nullptr && std::string(wanted) == "all";
    const std::vector<Plan> every = every_plan();
    std::vector<Plan> some = covering(every, /*least=*/160);
    std::set<std::string> names, proven;  // of plans; of meshes
    const auto note = [&](const Plan& plan) {
      names.insert(name(plan));
      if (plan.precision == spec::Precision::kFloat64) proven.insert(mesh_name(plan));
    };
    for (const Plan& plan : some) note(plan);
    for (const Plan& plan : every) {
      const bool proof = plan.precision == spec::Precision::kFloat64 && !proven.contains(mesh_name(plan));
      // Of one rank all: they are few and quick.
      if (!proof && plan.world() > 1 && !(all && in_the_full_matrix(plan))) continue;
      if (names.contains(name(plan))) continue;
      some.push_back(plan);
      note(plan);
    }
    return some;
  }();
  return plans;
}

// By mesh, so that its ranks and process groups are made once.
std::vector<std::vector<Plan>> by_mesh() {
  std::map<std::string, std::vector<Plan>> groups;
  for (const Plan& plan : plans()) groups[mesh_name(plan)].push_back(plan);
  std::vector<std::vector<Plan>> list;
  for (auto& [mesh, group] : groups) list.push_back(std::move(group));
  return list;
}

class EveryMesh : public ::testing::TestWithParam<std::vector<Plan>> {};

TEST_P(EveryMesh, TrainsAsOneProcess) {
  std::cout << GetParam().size() << " of " << plans().size() << " plans" << std::endl;  // progress of long runs
  const std::vector<Trained> trained = train_plans(GetParam());
  for (size_t i = 0; i < trained.size(); ++i) {
    const Plan& plan = GetParam()[i];
    EXPECT_THAT(differences(trained[i], single_run(plan), bound_of(plan)), IsEmpty()) << name(plan);
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, EveryMesh, ::testing::ValuesIn(by_mesh()),
                         [](const auto& info) { return mesh_name(info.param[0]); });

// Three experts for four shards, so each rank keeps rows of every expert: of 20, tp leaves 10, which are 3, 3, 3 and 1.
TEST(Plans, FewExpertsAreCutOverTpAndThenTheirRowsOverTheShards) {
  const Plan plan{
      .model = Plan::Model::kFewExperts, .shard = 4, .tp = 2, .precision = spec::Precision::kFloat64, .ordered = false};
  const spec::Mesh mesh = run_of(plan).mesh;
  const spec::Layout w1 = spec::layout_of("layers.0.moe.experts.w1", {3, 20, 48}, mesh);
  EXPECT_EQ(spec::box_of(w1, mesh, /*rank=*/0), (spec::Box{{0, 0, 0}, {3, 3, 48}}));
  EXPECT_EQ(spec::box_of(w1, mesh, /*rank=*/7), (spec::Box{{0, 19, 0}, {3, 1, 48}}));  // the last of both axes

  std::vector<Plan> ways(3, plan);
  ways[1].sequence_parallel = false;
  ways[2].reduce_once = true;
  const std::vector<Trained> trained = train_plans(ways);
  for (size_t i = 0; i < ways.size(); ++i) {
    EXPECT_TRUE(spec::check_rules(run_of(ways[i])).empty()) << name(ways[i]);
    EXPECT_THAT(differences(trained[i], single_run(ways[i]), bound_of(ways[i])), IsEmpty()) << name(ways[i]);
  }
}

TEST(Plans, AreEnoughAndOfEveryWorldSize) {
  EXPECT_GE(plans().size(), 150u);
  std::map<int64_t, int> by_world;
  for (const Plan& plan : plans()) ++by_world[plan.world()];
  for (const int64_t world : {1, 2, 4, 8}) EXPECT_GT(by_world[world], 10) << world << " ranks";
}

}  // namespace
}  // namespace qwen3::testing
