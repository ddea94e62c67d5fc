// Estimated bytes against what the counting allocator sees in training steps of one rank: of activations, and how they
// fall as less is kept; of a checkpoint's copy. A process of its own: nothing else may allocate.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "kernels/cpu/recycling_allocator.h"
#include "spec/estimate.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "tests/temporary_folder.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

using Mode = spec::ActivationCheckpoint::Mode;

struct Shape {
  const char* name;
  spec::ModelShape model;
  spec::Precision precision;
  int64_t local_batch_size, seq_len;
};

const Shape kShapes[] = {
    {"wide_mlp",
     {.dim = 128, .layers = 6, .heads = 4, .kv_heads = 2, .head_dim = 32, .ffn_hidden = 512, .vocab = 300},
     spec::Precision::kFloat32,
     2,
     512},
    {"wide_attention",
     {.dim = 128,
      .layers = 4,
      .heads = 16,
      .kv_heads = 8,
      .head_dim = 64,
      .ffn_hidden = 384,
      .vocab = 300,
      .tied = true},
     spec::Precision::kBfloat16,
     2,
     512},
    {"wide_head",
     {.dim = 128, .layers = 3, .heads = 4, .kv_heads = 4, .head_dim = 32, .ffn_hidden = 256, .vocab = 8000},
     spec::Precision::kBfloat16,
     2,
     512},
    {"experts",
     {.dim = 128,
      .layers = 4,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 32,
      .vocab = 300,
      .experts = 8,
      .experts_per_token = 4,
      .expert_hidden = 96},
     spec::Precision::kFloat32,
     3,
     512},
    {"experts_bfloat16",
     {.dim = 128,
      .layers = 4,
      .heads = 8,
      .kv_heads = 2,
      .head_dim = 64,
      .vocab = 300,
      .experts = 8,
      .experts_per_token = 2,
      .expert_hidden = 64},
     spec::Precision::kBfloat16,
     4,
     512},
};

const std::pair<const char*, spec::ActivationCheckpoint> kModes[] = {
    {"none", {.mode = Mode::kNone}},
    {"every_second", {.mode = Mode::kSelective}},
    {"attention_kept", {.mode = Mode::kSelective, .every_nth_block = {}, .kept = {"attention"}}},
    {"budget", {.mode = Mode::kMemoryBudget, .memory_budget = 0.4}},
    {"full", {.mode = Mode::kFull}},
};

spec::RunSpec run_of(const Shape& shape) {
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), shape.model.tied);
  run.model = shape.model;
  run.precision = shape.precision;
  run.ordered = false;
  run.data.local_batch_size = shape.local_batch_size;
  run.data.seq_len = shape.seq_len;
  run.microbatches_per_rank = 2;
  run.global_batch_size = 2 * shape.local_batch_size;
  return run;
}

// The most that a step of two microbatches holds beyond weights and moments.
int64_t measured_bytes(const spec::RunSpec& run) {
  int64_t bytes = 0;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {two_documents_of(run), nullptr});
    const int64_t between_steps = kernels::live_bytes();
    kernels::reset_peak();
    trainer.step(1, {});
    bytes = kernels::peak_bytes() - between_steps;
  });
  return bytes;
}

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

class EveryShape : public ::testing::TestWithParam<Shape> {
 protected:
  static void SetUpTestSuite() { kernels::install_recycling_allocator(); }
};

TEST_P(EveryShape, HoldsTheBytesEstimatedAndFewerAsLessIsKept) {
  spec::RunSpec run = run_of(GetParam());
  std::map<std::string, int64_t> measured;
  for (const auto& [name, mode] : kModes) {
    run.activation_checkpoint = mode;
    const spec::BytesPerRank bytes = spec::estimate_bytes_per_rank(run);
    const auto estimated = static_cast<double>(bytes.gradients + bytes.activations);  // the rest is always there
    measured[name] = measured_bytes(run);
    // Not known to the estimate: which part of a unit's gradient is there at the fullest moment, small temporaries.
    EXPECT_NEAR(estimated, static_cast<double>(measured[name]), 0.1 * static_cast<double>(measured[name])) << name;
    EXPECT_GT(static_cast<double>(bytes.activations), 0.6 * estimated) << name << ": the shape tests gradients";
  }
  for (const char* between : {"every_second", "attention_kept", "budget"}) {
    EXPECT_LT(measured[between], measured["none"]) << between;
    EXPECT_GT(measured[between], measured["full"]) << between;
  }
}

TEST_P(EveryShape, HoldsACopyOfTheStateWhileACheckpointIsWritten) {
  const spec::RunSpec run = run_of(GetParam());
  const tests::TemporaryFolder folder("copy");
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {two_documents_of(run), nullptr});
    std::atomic<int64_t> held = 0;
    rank::Checkpointer checkpointer(run, mesh, trainer.model(), {folder.path(), 1, "{}"},
                                    [&](const internal::v1::PreparedCheckpoint&) { held = kernels::peak_bytes(); });
    const int64_t before = kernels::live_bytes();
    kernels::reset_peak();
    checkpointer.save({.step = 1}, /*last=*/false);
    checkpointer.wait();
    const auto copy = static_cast<double>(spec::estimate_bytes_per_rank(run).checkpoint_copy);
    // Slots are padded to multiples of 16 elements; the copy is not, and buffers come with it.
    EXPECT_NEAR(static_cast<double>(held - before), copy, 0.01 * copy);
  });
}

INSTANTIATE_TEST_SUITE_P(ActivationBytes, EveryShape, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace qwen3::testing
