// Tests the tester: a fault in one exchange of one step turns the comparison of plans red.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/plans/train_plan.h"

namespace qwen3::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

using Spoil = std::function<void(const at::Tensor& received)>;

// On the ranks for which `here` holds, spoils the exchange number `which` (from 0) of those that match; all if -1.
Fault in_exchange(const char* axis, const char* operation, at::ScalarType dtype, int which, Spoil spoil,
                  std::function<bool(int64_t rank)> here) {
  return [=](const parallel::DeviceMesh& mesh) {
    if (!here(mesh.rank())) return;
    const auto seen = std::make_shared<int>(0);
    mesh.instruments().spoil = [=](std::string_view over, std::string_view did, const at::Tensor& received) {
      if (over != axis || did != operation || received.scalar_type() != dtype) return;
      if (const int number = (*seen)++; which == -1 || number == which) spoil(received);
    };
  };
}

bool everywhere(int64_t) { return true; }
bool on_rank_1(int64_t rank) { return rank == 1; }

struct Case {
  const char* name;
  std::vector<Plan> plans;
  std::function<Fault(at::ScalarType dtype)> fault;
};

Plan in_float64(Plan plan) {
  plan.precision = spec::Precision::kFloat64;
  plan.ordered = false;
  return plan;
}

const std::vector<Plan> kData{{.replicate = 2, .shard = 2},
                              {.model = Plan::Model::kMoe, .replicate = 2, .shard = 2, .ordered = false},
                              in_float64({.model = Plan::Model::kTied, .replicate = 2, .shard = 2})};
const std::vector<Plan> kTensor{{.shard = 2, .tp = 2}, in_float64({.model = Plan::Model::kMoe, .shard = 2, .tp = 2})};
const std::vector<Plan> kExpert{{.model = Plan::Model::kMoe, .shard = 4, .ep = 2},
                                in_float64({.model = Plan::Model::kMoe, .shard = 2, .tp = 2, .ep = 2})};
const std::vector<Plan> kRouted{kTensor[1], kExpert[1]};
constexpr int kBlocks = 3, kExperts = 4;
// A step begins and ends with one exchange of integers between all ranks.
constexpr int kTotalsOfTheLastStep = 2 * static_cast<int>(kSteps) - 1;

// The counts of routed tokens in the totals [ranks, ...] of a step: [ranks, blocks * experts].
at::Tensor counts_in(const at::Tensor& totals) {
  constexpr int64_t kCounts = kBlocks * kExperts;
  return totals.narrow(1, totals.size(1) - kCounts, kCounts);
}

std::vector<Plan> every(const std::vector<std::vector<Plan>>& lists) {
  std::vector<Plan> all;
  for (const std::vector<Plan>& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

// received is [ranks, elements]; over ep it is rows, those of the lower rank first.
const Case kCases[] = {
    {"none", every({kData, kTensor, kExpert}), [](at::ScalarType) { return Fault(); }},
    {"drop_one_reduction", kData,
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_to_all", dtype, 0, [](const at::Tensor& r) { r[0].zero_(); }, on_rank_1);
     }},
    {"scale_one_gradient", kData,
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_to_all", dtype, 0, [](const at::Tensor& r) { r.narrow(1, 0, 16).mul_(1.01); }, on_rank_1);
     }},
    {"swap_two_ranks_shards", kData,
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_gather", dtype, 1, [](const at::Tensor& r) { r.copy_(r.flip(0).clone()); }, everywhere);
     }},
    {"average_instead_of_sum", kData,
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_to_all", dtype, -1, [](const at::Tensor& r) { r.div_(r.size(0)); }, everywhere);
     }},
    {"average_over_the_replicas", kData,
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_replicate", "all_to_all", dtype, -1, [](const at::Tensor& r) { r.div_(r.size(0)); }, everywhere);
     }},
    // Row sums (ordered), or each rank's sum, are gathered in float64 over the ranks of a replica.
    {"forget_one_norm_contribution", kData,
     [](at::ScalarType dtype) {
       return in_exchange(
           "replica", "all_gather", at::kDouble, -1,
           [dtype](const at::Tensor& r) {
             if (dtype == at::kFloat || r.numel() == r.size(0)) r[1].zero_();
           },
           everywhere);
     }},
    // The first all-to-all over tp joins the embedding, the second the first block's attention.
    {"drop_one_partial_product", kTensor,
     [](at::ScalarType dtype) {
       return in_exchange(
           "tp", "all_to_all", dtype, 1, [](const at::Tensor& r) { r[0].zero_(); }, on_rank_1);
     }},
    {"swap_two_pieces_of_the_sequence", kTensor,
     [](at::ScalarType dtype) {
       return in_exchange(
           "tp", "all_gather", dtype, 0, [](const at::Tensor& r) { r.copy_(r.flip(0).clone()); }, everywhere);
     }},
    {"swap_the_rows_of_two_sources", kExpert,
     [](at::ScalarType dtype) {
       return in_exchange(
           "ep", "all_to_all", dtype, 0, [](const at::Tensor& r) { r.copy_(r.flip(0).clone()); }, everywhere);
     }},
    {"scale_the_rows_of_one_expert", kExpert,
     [](at::ScalarType dtype) {
       return in_exchange(
           "ep", "all_to_all", dtype, 1, [](const at::Tensor& r) { r.narrow(0, 0, 1).mul_(1.01); }, on_rank_1);
     }},
    // Forward has two exchanges in each block; the next one brings gradients of what the experts gave.
    {"drop_the_gradients_of_rows", kExpert,
     [](at::ScalarType dtype) {
       return in_exchange(
           "ep", "all_to_all", dtype, 2 * kBlocks, [](const at::Tensor& r) { r.zero_(); }, on_rank_1);
     }},
    {"drop_one_reduction_of_experts", kExpert,
     [](at::ScalarType dtype) {
       return in_exchange(
           "efsdp", "all_to_all", dtype, 0, [](const at::Tensor& r) { r[0].zero_(); }, on_rank_1);
     }},
    // After the last step nothing but the buffers can show it. Twice: as if each of two tp ranks counted.
    {"count_routed_tokens_twice", kRouted,
     [](at::ScalarType) {
       return in_exchange(
           "world", "all_gather", at::kLong, kTotalsOfTheLastStep, [](const at::Tensor& r) { counts_in(r).mul_(2); },
           everywhere);
     }},
    {"drop_the_routed_tokens_of_one_rank", kRouted,
     [](at::ScalarType) {
       return in_exchange(
           "world", "all_gather", at::kLong, kTotalsOfTheLastStep, [](const at::Tensor& r) { counts_in(r)[2].zero_(); },
           everywhere);
     }},
};

struct PlantedFault {
  const Case* planted;
  Plan plan;
};

std::vector<PlantedFault> every_fault() {
  std::vector<PlantedFault> faults;
  for (const Case& planted : kCases) {
    for (const Plan& plan : planted.plans) faults.push_back({&planted, plan});
  }
  return faults;
}

class EveryFault : public ::testing::TestWithParam<PlantedFault> {};

TEST_P(EveryFault, IsFound) {
  const auto& [planted, plan] = GetParam();
  const at::ScalarType dtype = plan.precision == spec::Precision::kFloat64 ? at::kDouble : at::kFloat;
  const Trained trained = train_plans({plan}, planted->fault(dtype))[0];
  const auto found = differences(trained, single_run(plan), bound_of(plan));
  if (std::string(planted->name) == "none") {
    EXPECT_THAT(found, IsEmpty());
  } else {
    EXPECT_THAT(found, Not(IsEmpty()));
  }
}

INSTANTIATE_TEST_SUITE_P(Planted, EveryFault, ::testing::ValuesIn(every_fault()), [](const auto& info) {
  return std::string(info.param.planted->name) + "_" + name(info.param.plan);
});

}  // namespace
}  // namespace qwen3::testing
