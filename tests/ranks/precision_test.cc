// Fast mode and bfloat16: not bitwise across meshes, but the same run within rounding.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

double value(const std::string& hex) { return std::strtod(hex.c_str(), nullptr); }

spec::RunSpec fast_run(int64_t shard, spec::Precision precision) {
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, shard), /*tied=*/false);
  run.ordered = false;
  run.precision = precision;
  return run;
}

TEST(FastMode, Float32AgreesWithOrderedWithinRoundingOfTheSums) {
  const Outcome ordered = train(tiny_run(data_parallel_mesh(1, 1), false), 4);
  const Outcome fast = train(fast_run(2, spec::Precision::kFloat32), 4);
  for (size_t i = 0; i < ordered.losses.size(); ++i) {
    // Only the order of float32 additions differs: 1e-6 relative, as for every plan (design's bound).
    EXPECT_NEAR(value(fast.losses[i]), value(ordered.losses[i]), 1e-6 * value(ordered.losses[i])) << i;
    EXPECT_NEAR(value(fast.norms[i]), value(ordered.norms[i]), 1e-5 * value(ordered.norms[i])) << i;
  }
}

// One process adds both uses of a tied weight in one accumulator then; the bounds are those above.
TEST(FastMode, TiedWeightAgreesWithOrderedAlsoInOneProcess) {
  const Outcome ordered = train(tiny_run(data_parallel_mesh(1, 1), /*tied=*/true), 4);
  for (const int64_t ranks : {1, 2}) {
    spec::RunSpec run = tiny_run(data_parallel_mesh(1, ranks), /*tied=*/true);
    run.ordered = false;
    const Outcome fast = train(run, 4);
    for (size_t i = 0; i < ordered.losses.size(); ++i) {
      EXPECT_NEAR(value(fast.losses[i]), value(ordered.losses[i]), 1e-6 * value(ordered.losses[i]))
          << ranks << ' ' << i;
      EXPECT_NEAR(value(fast.norms[i]), value(ordered.norms[i]), 1e-5 * value(ordered.norms[i])) << ranks << ' ' << i;
    }
  }
}

TEST(FastMode, BFloat16TracksFloat32) {
  const Outcome exact = train(fast_run(1, spec::Precision::kFloat32), 6);
  for (int64_t ranks : {1, 2}) {
    const Outcome rounded = train(fast_run(ranks, spec::Precision::kBfloat16), 6);
    for (size_t i = 0; i < exact.losses.size(); ++i) {
      // bfloat16 keeps 8 bits: 2^-8 relative per operation, averaged over hundreds of tokens.
      EXPECT_NEAR(value(rounded.losses[i]), value(exact.losses[i]), 4e-3 * value(exact.losses[i])) << ranks << ' ' << i;
    }
    EXPECT_LT(value(rounded.losses.back()), value(rounded.losses.front()));
  }
}

struct Plan {
  const char* name;
  int64_t replicate, shard, ep;
};

spec::RunSpec float32_run(const Plan& plan) {
  spec::Mesh mesh = data_parallel_mesh(plan.replicate, plan.shard);
  mesh.ep = plan.ep;
  // Experts in turn: a rounding could change the router's choice.
  spec::RunSpec run = plan.ep > 1 ? tiny_moe_run(mesh, {.force_load_balance = true}) : tiny_run(mesh, /*tied=*/false);
  run.ordered = false;
  return run;
}

class GradientsInBFloat16 : public ::testing::TestWithParam<std::tuple<Plan, bool>> {
 protected:
  const Plan& plan() const { return std::get<0>(GetParam()); }
  spec::RunSpec bfloat16_run() const {
    spec::RunSpec run = float32_run(plan());
    run.reduce_once = std::get<1>(GetParam());
    run.reduce_in_bfloat16 = true;
    return run;
  }
};

TEST_P(GradientsInBFloat16, TrainAsThoseInFloat32WithinTheirRounding) {
  const Outcome exact = train(float32_run(plan()), 4), rounded = train(bfloat16_run(), 4);
  // Every element of a gradient is rounded to 8 bits once on each axis; the norm of thousands of them averages that.
  // Later steps' gradients are of other weights, since AdamW divides small gradients by their own size.
  EXPECT_NEAR(value(rounded.norms[0]), value(exact.norms[0]), 1e-3 * value(exact.norms[0]));
  EXPECT_NE(rounded.norms[0], exact.norms[0]);
  for (size_t i = 0; i < exact.losses.size(); ++i) {
    EXPECT_NEAR(value(rounded.losses[i]), value(exact.losses[i]), 4e-3 * value(exact.losses[i])) << i;  // as above
  }
}

TEST_P(GradientsInBFloat16, TravelSoOverEveryAxisAndAreAddedInFloat32) {
  spec::RunSpec run = bfloat16_run();
  run.optimizer.beta1 = 0;  // the first moment is the gradient,
  run.max_norm = 0;         // which is not clipped
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {std::make_shared<SyntheticText>(50, run.data.seq_len, run.model.vocab), nullptr});
    trainer.step(1, {});
    using Dtypes = std::set<at::ScalarType>;
    const auto sent = [&](std::string_view axis, std::string_view operation) {
      Dtypes dtypes;
      for (const auto& flight : mesh.instruments().flights.flights()) {
        if (flight.axis == axis && flight.operation == operation) dtypes.insert(flight.dtype);
      }
      return dtypes;
    };
    EXPECT_EQ(sent("dp_shard", "all_to_all"), Dtypes{at::kBFloat16});
    EXPECT_EQ(sent("efsdp", "all_to_all"), plan().ep > 1 ? Dtypes{at::kBFloat16} : Dtypes{});
    EXPECT_EQ(sent("dp_replicate", "all_to_all"), plan().replicate > 1 ? Dtypes{at::kBFloat16} : Dtypes{});
    EXPECT_EQ(sent("dp_replicate", "all_gather"), plan().replicate > 1 ? Dtypes{at::kFloat} : Dtypes{});
    for (const parallel::ShardedTensor* tensor : trainer.model().tensors()) {
      if (tensor->numel() < 100) continue;  // a few sums may need no more than 8 bits by chance
      const at::Tensor gradient = tensor->box_of(tensor->exp_avg);
      EXPECT_FALSE(at::equal(gradient, gradient.to(at::kBFloat16).to(at::kFloat))) << tensor->name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(FastMode, GradientsInBFloat16,
                         ::testing::Combine(::testing::Values(Plan{"fsdp4", 1, 4, 1}, Plan{"hsdp2x2", 2, 2, 1},
                                                              Plan{"fsdp4_ep2", 1, 4, 2}),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) +
                                  (std::get<1>(info.param) ? "_reduce_once" : "");
                         });

TEST(FastMode, Float64IsFloat64Throughout) {
  const Outcome one = train(fast_run(1, spec::Precision::kFloat64), 4);
  const Outcome four = train(fast_run(4, spec::Precision::kFloat64), 4);
  for (size_t i = 0; i < one.losses.size(); ++i) {
    EXPECT_NEAR(value(four.losses[i]), value(one.losses[i]), 1e-12 * value(one.losses[i])) << i;  // 2^-53, accumulated
  }
}

}  // namespace
}  // namespace qwen3::testing
