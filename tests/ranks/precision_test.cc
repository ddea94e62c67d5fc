// Fast mode and bfloat16: not bitwise across meshes, but the same run within rounding.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"

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

TEST(FastMode, GradientsThatTravelInBFloat16AreAddedInFloat32) {
  const Outcome exact = train(fast_run(4, spec::Precision::kFloat32), 4);
  for (const bool reduce_once : {false, true}) {
    spec::RunSpec run = fast_run(4, spec::Precision::kFloat32);
    run.reduce_once = reduce_once;
    run.reduce_in_bfloat16 = true;
    const Outcome rounded = train(run, 4);
    // Every element of a gradient is rounded to 8 bits once; the norm of thousands of them averages that. Later steps'
    // gradients are of other weights, since AdamW divides small gradients by their own size.
    EXPECT_NEAR(value(rounded.norms[0]), value(exact.norms[0]), 1e-3 * value(exact.norms[0]));
    EXPECT_NE(rounded.norms[0], exact.norms[0]);
    for (size_t i = 0; i < exact.losses.size(); ++i) {
      EXPECT_NEAR(value(rounded.losses[i]), value(exact.losses[i]), 4e-3 * value(exact.losses[i])) << i;  // as below
    }
  }
}

TEST(FastMode, Float64IsFloat64Throughout) {
  const Outcome one = train(fast_run(1, spec::Precision::kFloat64), 4);
  const Outcome four = train(fast_run(4, spec::Precision::kFloat64), 4);
  for (size_t i = 0; i < one.losses.size(); ++i) {
    EXPECT_NEAR(value(four.losses[i]), value(one.losses[i]), 1e-12 * value(one.losses[i])) << i;  // 2^-53, accumulated
  }
}

}  // namespace
}  // namespace qwen3::testing
