#include "spec/estimate.h"

#include <gtest/gtest.h>

#include "spec/activation_checkpoint.h"

namespace qwen3::spec {
namespace {

RunSpec run_of(const char* flavor, int64_t shard_degree, Precision precision) {
  RunSpec run;
  run.model = *find_flavor(flavor);
  run.mesh.degrees = {1, 1, shard_degree, 1, 1};
  run.precision = precision;
  run.data.local_batch_size = 2;
  run.data.seq_len = 256;
  return run;
}

// Published figures of Qwen3's training cost at 4,096 tokens, in units of 1e9 FLOPs a token.
TEST(Estimate, FlopsPerTokenAreThePublishedOnes) {
  const std::pair<const char*, double> published[] = {{"0.6B", 4.99},     {"1.7B", 11.73},     {"4B", 27.76},
                                                      {"8B", 49.03},      {"14B", 88.97},      {"32B", 204.8},
                                                      {"30B-A3B", 23.08}, {"235B-A22B", 148.3}};
  for (const auto& [flavor, giga] : published) {
    // The figures have three or four digits.
    EXPECT_NEAR(flops_per_token(*find_flavor(flavor), 4096) / 1e9, giga, giga * 1.1e-3) << flavor;
  }
}

TEST(Estimate, FlopsOfTheDebugModelByHand) {
  // Per layer: q and o 2 * 256 * 2048, k and v 2 * 256 * 1024, MLP 3 * 256 * 3072 = 3,932,160; eight of them and the
  // head, 2048 * 256, make 31,981,568 multiplications. Attention: 6 * 8 layers * 2048 * 512 tokens.
  EXPECT_EQ(flops_per_token(*find_flavor("debugmodel"), 512), 6.0 * 31'981'568 + 6.0 * 8 * 2048 * 512);
}

TEST(Estimate, ACheckpointHoldsWeightsAndTwoMomentsInFloat32) {
  EXPECT_EQ(checkpoint_bytes(*find_flavor("debugmodel")), 12 * 31'987'968LL);
  EXPECT_EQ(checkpoint_bytes(*find_flavor("0.6B")), 12 * 596'049'920LL);
}

// debugmodel: a block has 3,932,928 parameters, embedding and head share 524,288.
constexpr int64_t kAll = 31'987'968, kBlock = 3'932'928, kTable = 2048 * 256;
// What a block keeps for a token, in float32: two norms, projections before and after norm and rotation, attention's
// output and its statistics, gate, up and their product.
constexpr int64_t kBlockValues = 2 * (2 * 256 + 1) + 3072 + 24 + 4096 + 2048 + 16 + 3 * 3072;

TEST(Estimate, OneRankHoldsTheWholeModel) {
  const BytesPerRank bytes = estimate_bytes_per_rank(run_of("debugmodel", 1, Precision::kFloat32));
  EXPECT_EQ(bytes.parameters, 4 * kAll);  // the masters are what forward reads
  EXPECT_EQ(bytes.moments, 8 * kAll);
  EXPECT_EQ(bytes.peak(), bytes.parameters + bytes.gradients + bytes.moments + bytes.activations);
  EXPECT_EQ(bytes.checkpoint_copy, bytes.moments / 2 * 3);
  // The fullest moment of the first microbatch is the backward of the last block's MLP: head, last norm and w2 have
  // gradients. With activations of all blocks no later moment is fuller: what a block adds in gradients (15 MiB) is
  // less than what it frees (36 MiB).
  EXPECT_EQ(bytes.gradients, 4 * (kTable + 256 + 256 * 3072));
  // 512 tokens: 8 blocks, the rotation's angles, the mask of sequences of 256, and the gradients of the block's output,
  // gate and up.
  EXPECT_EQ(bytes.activations, 4LL * 512 * (8 * kBlockValues + 128 + 256 + 256 + 2 * 3072));
}

TEST(Estimate, FewTokensLeaveGradientsAsTheLargestPart) {
  RunSpec run = run_of("debugmodel", 1, Precision::kFloat32);
  run.data.seq_len = 8;
  // In the end every gradient is there: those of the blocks added up, and the two of the tied table.
  EXPECT_EQ(estimate_bytes_per_rank(run).gradients, 4 * (kAll + kTable));
}

TEST(Estimate, ShardingDividesTheStateAndGathersTwoUnits) {
  RunSpec run = run_of("debugmodel", 4, Precision::kBfloat16);
  run.data.seq_len = 8;
  const BytesPerRank bytes = estimate_bytes_per_rank(run);
  EXPECT_EQ(bytes.moments, 8 * kAll / 4);
  // Float32 and bfloat16 shards; the tied table stays gathered, and a block is while the next one's pieces come.
  EXPECT_EQ(bytes.parameters, (4 + 2) * kAll / 4 + 2 * (kTable + 256) + 2 * 2 * kBlock);
}

TEST(Estimate, WeightsThatStayAfterForwardAreCountedWhole) {
  RunSpec run = run_of("debugmodel", 4, Precision::kBfloat16);
  run.reshard_after_forward = false;
  EXPECT_EQ(estimate_bytes_per_rank(run).parameters, (4 + 2) * kAll / 4 + 2 * kAll);
}

TEST(Estimate, TensorParallelismDividesMatricesActivationsAndLogitsButNotNorms) {
  RunSpec run = run_of("debugmodel", 1, Precision::kFloat32);
  run.mesh.degrees = {1, 1, 1, 1, 4};
  const BytesPerRank bytes = estimate_bytes_per_rank(run);
  constexpr int64_t kNorms = 8 * (2 * 256 + 2 * 128) + 256;
  EXPECT_EQ(bytes.moments, 8 * ((kAll - kNorms) / 4 + kNorms));
  // Norms, and what they read, are of a quarter of the tokens; the normed rows are gathered.
  constexpr int64_t kPiece = 128 * 2 * (256 + 1) + 512 * 2 * 256;
  EXPECT_EQ(BlockCost(run).all_bytes(), 4 * (kPiece + 512 * (3072 + 24 + 4096 + 2048 + 16 + 3 * 3072) / 4));
  run.sequence_parallel = false;
  EXPECT_EQ(BlockCost(run).all_bytes(), 4 * 512 * (2 * (2 * 256 + 1) + (3072 + 24 + 4096 + 2048 + 16 + 3 * 3072) / 4));
}

TEST(Estimate, ExpertParallelismDividesTheExpertsAndNotTheRowsOfARank) {
  RunSpec run = run_of("debugmodel_moe", 4, Precision::kFloat32);
  const int64_t rows = BlockCost(run).all_bytes();
  const int64_t moments = estimate_bytes_per_rank(run).moments;
  run.mesh.ep = 4;
  EXPECT_EQ(BlockCost(run).all_bytes(), rows);
  EXPECT_EQ(estimate_bytes_per_rank(run).moments, moments);  // sharded by others instead
  run.mesh.degrees = {1, 1, 1, 1, 4};                        // the experts alone are divided
  constexpr int64_t kExperts = 8LL * 64 * 3 * 256 * 768, kRouters = 8LL * 64 * 256, kNorms = 8 * 768 + 256;
  constexpr int64_t kModel = 315'758'848;
  EXPECT_EQ(estimate_bytes_per_rank(run).moments, 8 * ((kModel - kRouters - kNorms) / 4 + kRouters + kNorms));
  static_assert(kExperts < kModel);
}

TEST(Estimate, RecomputedBlocksKeepTheirInputsAndOneIsWholeAtATime) {
  RunSpec run = run_of("debugmodel", 1, Precision::kFloat32);
  const int64_t none = estimate_bytes_per_rank(run).activations;
  const int64_t block = BlockCost(run).all_bytes();
  run.activation_checkpoint.mode = ActivationCheckpoint::Mode::kSelective;  // the second, fourth, sixth and last block
  EXPECT_EQ(estimate_bytes_per_rank(run).activations, none - 3 * (block - 4 * 512 * 256));
}

TEST(Estimate, OrderedModeHoldsAPartialSumPerLevelOfItsTree) {
  RunSpec run = run_of("debugmodel", 1, Precision::kFloat32);
  run.data.seq_len = 8;
  run.microbatches_per_rank = 4;
  const int64_t fast = estimate_bytes_per_rank(run).gradients;
  run.ordered = true;  // before the fourth microbatch the sums of the first two and the third's
  // Each of the tied table's two uses has sums of its own, and the fourth's gradients join the first block's sums last.
  EXPECT_GT(estimate_bytes_per_rank(run).gradients, fast + 4 * kAll);
}

}  // namespace
}  // namespace qwen3::spec
