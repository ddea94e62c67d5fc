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

TEST(Estimate, OneRankHoldsTheWholeModel) {
  const BytesPerRank bytes = estimate_bytes_per_rank(run_of("debugmodel", 1, Precision::kFloat32));
  EXPECT_EQ(bytes.parameters, 4 * 31'987'968LL + 4 * 31'987'968LL);
  EXPECT_EQ(bytes.moments, 8 * 31'987'968LL);
  // One block of 3,932,928 parameters is the largest unit (the embedding has 524,288).
  EXPECT_EQ(bytes.gradients, 4 * 31'987'968LL + 4 * 3'932'928LL);
  // 512 tokens: 8 blocks, the last one's output and the rotation's angles; the fullest moment is the backward of an
  // MLP, with the gradients of its output, gate and up.
  constexpr int64_t kBlockValues = 2 * (2 * 256 + 1) + 3072 + 24 + 4096 + 2048 + 16 + 3 * 3072;
  EXPECT_EQ(bytes.activations, 4LL * 512 * (8 * kBlockValues + 256 + 128 + 256 + 2 * 3072));
  EXPECT_EQ(bytes.total(), bytes.parameters + bytes.gradients + bytes.moments + bytes.activations);
}

TEST(Estimate, AMixtureOfExpertsHoldsAllExpertsAndTheActivationsOfThoseChosen) {
  const BytesPerRank bytes = estimate_bytes_per_rank(run_of("debugmodel_moe", 4, Precision::kBfloat16));
  constexpr int64_t kAll = 315'758'848, kTable = 2048 * 256, kBlock = (kAll - 2 * kTable - 256) / 8;
  EXPECT_EQ(bytes.parameters, 4 * kAll / 4 + 2 * 2 * kBlock);
  EXPECT_EQ(bytes.gradients, 4 * kAll / 4 + 4 * kBlock);
  EXPECT_EQ(bytes.moments, 8 * kAll / 4);
  // 512 tokens, 8 of 64 experts of 768 each. Attention: input, norm, projections, q, k, v, output, statistics. Router:
  // input, statistics and norm in float32, scores, choices, gates before and after their sum. Experts: rows in and out,
  // gate, up and their product, order and gates; and the router's weight in float32, and counts.
  constexpr int64_t kAttention = 2 * (2 * 256 + 3072 + 4096 + 2048) + 4 * (1 + 24 + 16);
  constexpr int64_t kRouter = 2 * 256 + 4 * (1 + 256 + 64 + 9 + 8) + 8 * 8;
  constexpr int64_t kExperts = 2 * (2 * 8 * 256 + 3 * 6144) + 8 * 8;
  constexpr int64_t kOfBlock = 512 * (kAttention + kRouter + kExperts) + 64 * (4 * 256 + 8);
  // The fullest moment is the loss: logits in bfloat16, float32 and as logarithms, normed rows and their gradient.
  EXPECT_EQ(bytes.activations, 8 * kOfBlock + 512 * (2 * 256 + 4 * 128 + 2048 * (2 + 4 + 4) + 2 * 2 * 256));
}

TEST(Estimate, RecomputedBlocksKeepTheirInputsAndOneIsWholeAtATime) {
  RunSpec run = run_of("debugmodel", 1, Precision::kFloat32);
  const int64_t none = estimate_bytes_per_rank(run).activations;
  const int64_t block = BlockCost(run).all_bytes();
  run.activation_checkpoint.mode = ActivationCheckpoint::Mode::kFull;
  EXPECT_EQ(estimate_bytes_per_rank(run).activations, none - 7 * (block - 4 * 512 * 256));
  run.activation_checkpoint.mode = ActivationCheckpoint::Mode::kSelective;  // the second, fourth, sixth and last block
  EXPECT_EQ(estimate_bytes_per_rank(run).activations, none - 3 * (block - 4 * 512 * 256));
}

TEST(Estimate, ShardingDividesTheStateAndGathersTwoUnits) {
  const BytesPerRank bytes = estimate_bytes_per_rank(run_of("0.6B", 2, Precision::kBfloat16));
  const int64_t shard = 596'049'920 / 2;
  const int64_t table = 151936LL * 1024;  // larger than a block
  const int64_t block = (596'049'920 - table - 1024) / 28;
  EXPECT_EQ(bytes.parameters, 4 * shard + 2 * (block + table));
  EXPECT_EQ(bytes.gradients, 4 * shard + 4 * table);
  EXPECT_EQ(bytes.moments, 8 * shard);
}

TEST(Estimate, WeightsThatStayAfterForwardAreCountedWhole) {
  RunSpec run = run_of("0.6B", 2, Precision::kBfloat16);
  run.reshard_after_forward = false;
  EXPECT_EQ(estimate_bytes_per_rank(run).parameters, 4 * 596'049'920LL / 2 + 2 * 596'049'920LL);
}

TEST(Estimate, OrderedModeHoldsAPartialSumPerLevelOfItsTree) {
  RunSpec run = run_of("debugmodel", 1, Precision::kFloat32);
  run.ordered = true;
  run.microbatches_per_rank = 4;  // log2(4) + 1 = 3 partial sums
  EXPECT_EQ(estimate_bytes_per_rank(run).gradients, 3 * 4 * 31'987'968LL + 4 * 3'932'928LL);
}

}  // namespace
}  // namespace qwen3::spec
