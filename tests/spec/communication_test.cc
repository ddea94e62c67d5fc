// Bytes that a rank sends in a step, counted by hand for the debug model: 8 blocks of 3,932,928 parameters, an
// embedding of 524,288 that is the head as well, and a norm of 256.
#include "spec/communication.h"

#include <gtest/gtest.h>

namespace qwen3::spec {
namespace {

constexpr int64_t kBlock = 3'932'928, kTable = 2048 * 256, kNorm = 256;
constexpr int64_t kTokens = 512, kDim = 256;

RunSpec run_of(int64_t replicate, int64_t shard, int64_t tp) {
  RunSpec run;
  run.model = *find_flavor("debugmodel");
  run.mesh.degrees = {1, replicate, shard, 1, tp};
  run.precision = Precision::kBfloat16;
  run.data.local_batch_size = 2;
  run.data.seq_len = 256;
  run.microbatches_per_rank = 3;
  return run;
}

TEST(Communication, OneRankSendsNothing) { EXPECT_EQ(estimate_communication(run_of(1, 1, 1)).total(), 0); }

TEST(Communication, FsdpGathersInBfloat16AndExchangesGradientsInFloat32) {
  RunSpec run = run_of(1, 4, 1);
  // A microbatch: blocks but the last are gathered twice, the tied table once; the table has two gradients.
  const int64_t gathered = (2 * 7 + 1) * kBlock + kTable + kNorm, exchanged = 8 * kBlock + 2 * kTable + kNorm;
  EXPECT_EQ(estimate_communication(run).dp_shard, 3 * (3 * (2 * gathered + 4 * exchanged) / 4));
  EXPECT_EQ(estimate_communication(run).total(), estimate_communication(run).dp_shard);

  run.reshard_after_forward = false;  // once a step
  run.reduce_once = true;
  run.reduce_in_bfloat16 = true;
  EXPECT_EQ(estimate_communication(run).dp_shard, 3 * (2 * (8 * kBlock + kTable + kNorm) + 2 * exchanged) / 4);
}

TEST(Communication, ReplicasExchangeGradientsOnceAStep) {
  const int64_t exchanged = 8 * kBlock + 2 * kTable + kNorm;
  // An all-to-all of parts and a gather of their sums, each a half.
  EXPECT_EQ(estimate_communication(run_of(2, 1, 1)).dp_replicate, 2 * 4 * exchanged / 2);
  EXPECT_EQ(estimate_communication(run_of(2, 2, 1)).dp_replicate, 2 * 4 * exchanged / 2 / 2);
}

TEST(Communication, TensorParallelismSendsFourCrossingsABlockEachWay) {
  RunSpec run = run_of(1, 1, 2);
  // Into and out of attention and MLP, out of the embedding and into the head; for each token of the loss three float32
  // numbers. Gradients of norms are summed once a step.
  const int64_t piece = kTokens / 2 * kDim * 2;
  const int64_t norms = 8 * (2 * 256 + 2 * 128) + kNorm;
  EXPECT_EQ(estimate_communication(run).tp, 3 * (2 * (4 * 8 + 2) * piece + kTokens * 3 * 4) + 4 * norms);

  run.activation_checkpoint.mode = ActivationCheckpoint::Mode::kFull;  // every block's forward runs twice
  EXPECT_EQ(estimate_communication(run).tp, 3 * ((3 * 4 * 8 + 2 * 2) * piece + kTokens * 3 * 4) + 4 * norms);
}

TEST(Communication, WithoutSequenceParallelismASumIsSentTwiceAndTheOtherWayNothing) {
  RunSpec run = run_of(1, 1, 2);
  run.sequence_parallel = false;
  const int64_t piece = kTokens / 2 * kDim * 2;
  const int64_t norms = 8 * 2 * 128;  // of queries and keys only
  EXPECT_EQ(estimate_communication(run).tp, 3 * (2 * (4 * 8 + 2) * piece + kTokens * 3 * 4) + 4 * norms);
}

TEST(Communication, RowsGoToTheirExpertsAndBackTwice) {
  RunSpec run = run_of(1, 4, 1);
  run.model = *find_flavor("debugmodel_moe");  // 8 of 64 experts of 3 * 256 * 768
  run.mesh.ep = 2;
  const CommunicationBytes bytes = estimate_communication(run);
  EXPECT_EQ(bytes.ep, 3 * 8 * (4 * (kTokens * 8 / 2) * kDim * 2 + 32 * 8));
  const int64_t experts = 8LL * 64 * 3 * 256 * 768 / 2;                       // of a place of ep, on two ranks
  EXPECT_EQ(bytes.efsdp, 3 * ((2 * 7 + 1) * 2 + 8 * 4) * (experts / 8) / 2);  // the last block is gathered once
}

}  // namespace
}  // namespace qwen3::spec
