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
  std::function<Fault(at::ScalarType dtype)> fault;
};

// received is [ranks, elements].
const Case kCases[] = {
    {"none", [](at::ScalarType) { return Fault(); }},
    {"drop_one_reduction",
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_to_all", dtype, 0, [](const at::Tensor& r) { r[0].zero_(); }, on_rank_1);
     }},
    {"scale_one_gradient",
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_to_all", dtype, 0, [](const at::Tensor& r) { r.narrow(1, 0, 16).mul_(1.01); }, on_rank_1);
     }},
    {"swap_two_ranks_shards",
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_gather", dtype, 1, [](const at::Tensor& r) { r.copy_(r.flip(0).clone()); }, everywhere);
     }},
    {"average_instead_of_sum",
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_shard", "all_to_all", dtype, -1, [](const at::Tensor& r) { r.div_(r.size(0)); }, everywhere);
     }},
    {"average_over_the_replicas",
     [](at::ScalarType dtype) {
       return in_exchange(
           "dp_replicate", "all_to_all", dtype, -1, [](const at::Tensor& r) { r.div_(r.size(0)); }, everywhere);
     }},
    // Row sums (ordered), or each rank's sum, are gathered in float64 over the ranks of a replica.
    {"forget_one_norm_contribution",
     [](at::ScalarType dtype) {
       return in_exchange(
           "replica", "all_gather", at::kDouble, -1,
           [dtype](const at::Tensor& r) {
             if (dtype == at::kFloat || r.numel() == r.size(0)) r[1].zero_();
           },
           everywhere);
     }},
};

class EveryFault : public ::testing::TestWithParam<std::tuple<Case, Plan>> {};

TEST_P(EveryFault, IsFound) {
  const auto& [planted, plan] = GetParam();
  const at::ScalarType dtype = plan.precision == spec::Precision::kFloat64 ? at::kDouble : at::kFloat;
  const Trained trained = train_plans({plan}, planted.fault(dtype))[0];
  const auto found = differences(trained, single_run(plan), bound_of(plan));
  if (std::string(planted.name) == "none") {
    EXPECT_THAT(found, IsEmpty());
  } else {
    EXPECT_THAT(found, Not(IsEmpty()));
  }
}

constexpr Plan kHsdp{.replicate = 2, .shard = 2};

INSTANTIATE_TEST_SUITE_P(Planted, EveryFault,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Values(
                                                                             kHsdp,
                                                                             [] {
                                                                               Plan fast = kHsdp;
                                                                               fast.model = Plan::Model::kMoe;
                                                                               fast.ordered = false;
                                                                               return fast;
                                                                             }(),
                                                                             [] {
                                                                               Plan wide = kHsdp;
                                                                               wide.model = Plan::Model::kTied;
                                                                               wide.precision =
                                                                                   spec::Precision::kFloat64;
                                                                               wide.ordered = false;
                                                                               return wide;
                                                                             }())),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" + name(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace qwen3::testing
