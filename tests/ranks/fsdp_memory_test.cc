// What a rank of a sharded run holds at most, as the counting allocator sees it. Every rank is a process of its own:
// the allocator counts a process.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "kernels/cpu/recycling_allocator.h"
#include "spec/estimate.h"
#include "tests/ranks/rank_processes.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

constexpr int64_t kRanks = 4, kMiB = 1 << 20;

// Blocks of 12 MiB, few tokens: what is measured are weights.
spec::RunSpec run_of(bool reshard) {
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, kRanks), /*tied=*/false);
  run.model.dim = 512;
  run.model.layers = 12;
  run.model.heads = 8;
  run.model.kv_heads = 4;
  run.model.head_dim = 64;
  run.model.ffn_hidden = 1536;
  run.model.vocab = 2048;
  run.data.local_batch_size = 1;
  run.data.seq_len = 32;
  run.global_batch_size = 2 * kRanks;
  run.microbatches_per_rank = 2;
  run.ordered = false;
  run.reshard_after_forward = reshard;
  return run;
}

// The most bytes that any rank had.
int64_t peak_of(bool reshard) {
  int64_t most = 0;
  for (const auto& reports : run_rank_processes(kRanks, "FsdpMemory.ARankOfItsOwn", reshard ? "reshard" : "never")) {
    EXPECT_EQ(reports.size(), 1u);
    for (const int64_t peak : reports) most = std::max(most, peak);
  }
  return most;
}

TEST(FsdpMemory, ARankOfItsOwn) {
  const auto here = ThisRank::find();
  if (here == nullptr) GTEST_SKIP() << "a rank of the other tests, which start it";
  const spec::RunSpec run = run_of(here->argument() == "reshard");
  const auto store = here->rendezvous("memory");
  const parallel::DeviceMesh mesh(run.mesh, here->rank(), store.get());
  rank::Trainer trainer(run, mesh, {text_of(run), nullptr});
  kernels::reset_peak();
  trainer.step(1, {});
  trainer.step(2, {});
  here->report(kernels::peak_bytes());
}

TEST(FsdpMemory, IsShardsTwoGatheredUnitsAndOneUnitsGradients) {
  const spec::ModelShape model = run_of(true).model;
  const int64_t all = spec::parameter_count(model);
  const int64_t unit = 4 * (all - 2 * model.vocab * model.dim - model.dim) / model.layers;
  ASSERT_GE(unit, 4 * kMiB);
  const int64_t shards = 16 * all / kRanks;  // float32 weights, their gradients' sums, and two moments
  const int64_t exchange = 2 * unit;         // what is sent and what comes
  const int64_t formula = shards + 2 * unit + unit + exchange + spec::estimate_bytes_per_rank(run_of(true)).activations;
  const int64_t peak = peak_of(true);
  std::printf("peak %.1f MiB, formula %.1f MiB, one unit %.1f MiB\n", static_cast<double>(peak) / kMiB,
              static_cast<double>(formula) / kMiB, static_cast<double>(unit) / kMiB);
  EXPECT_NEAR(static_cast<double>(peak), static_cast<double>(formula),
              std::max(0.1 * static_cast<double>(formula), static_cast<double>(unit)));
  const int64_t never = peak_of(false);
  std::printf("never resharded: %.1f MiB\n", static_cast<double>(never) / kMiB);
  EXPECT_LE(static_cast<double>(peak), 0.75 * static_cast<double>(never));
}

}  // namespace
}  // namespace qwen3::testing
