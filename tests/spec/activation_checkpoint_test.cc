// Which results stay, how many bytes that is, and that a budget's choice is the best there is.
#include "spec/activation_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace qwen3::spec {
namespace {

using Mode = ActivationCheckpoint::Mode;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const KeptResults kAll = {"qkv", "attention", "attention_residual", "gate_up", "mlp_residual"};

RunSpec run_of(const char* flavor, const ActivationCheckpoint& activation_checkpoint = {}) {
  RunSpec run;
  run.model = *find_flavor(flavor);
  run.data.local_batch_size = 2;
  run.data.seq_len = 256;
  run.activation_checkpoint = activation_checkpoint;
  return run;
}

TEST(KeptResults, NoneKeepsAllAndFullNothing) {
  EXPECT_THAT(kept_results(run_of("debugmodel", {.mode = Mode::kNone})), Each(kAll));
  EXPECT_THAT(kept_results(run_of("debugmodel", {.mode = Mode::kFull})), Each(IsEmpty()));
  EXPECT_EQ(kept_results(run_of("debugmodel")).size(), 8u);
}

TEST(KeptResults, EveryThirdBlockIsRecomputedWholeBeginningWithTheThird) {
  const KeptResults none;
  EXPECT_THAT(kept_results(run_of("debugmodel", {.mode = Mode::kSelective, .every_nth_block = 3})),
              ElementsAre(kAll, kAll, none, kAll, kAll, none, kAll, kAll));
}

TEST(KeptResults, NamedResultsAreKeptByEveryBlock) {
  EXPECT_THAT(kept_results(run_of("debugmodel",
                                  {.mode = Mode::kSelective, .every_nth_block = {}, .kept = {"attention", "gate_up"}})),
              Each(KeptResults{"attention", "gate_up"}));
}

TEST(BlockCost, BytesOfTheDebugModelByHand) {
  const BlockCost cost(run_of("debugmodel"));  // D 256, 16 heads and 8 of keys of 128, F 3072; float32, 512 tokens
  EXPECT_EQ(cost.kept_bytes({}), 512 * 4 * 256);
  // The input, what attention reads and what it makes (q, k, v, out, a logarithm for each head), and h.
  EXPECT_EQ(cost.kept_bytes({"attention"}), 512 * 4 * (256 + 2048 + 2 * 1024 + 2048 + 16));
  // h is the input of the last group; gate and up are read by it.
  EXPECT_EQ(cost.kept_bytes({"gate_up"}), 512 * 4 * (256 + 2 * 256 + 1 + 2 * 3072));
  // Everything: both norms with their inputs and one number a token, projections before and after norm and rotation.
  EXPECT_EQ(cost.all_bytes(), 512 * 4 * (2 * (2 * 256 + 1) + 3072 + 24 + 4096 + 2048 + 16 + 3 * 3072));
  EXPECT_EQ(cost.kept_bytes(kAll), cost.all_bytes());
}

// On four ranks 512 query and 768 hidden features of 512 tokens. What comes out of wo and w2 has its gradient gathered:
// in pieces, of which one is there anyway, and joined; the inputs' gradient made of it is there twice as well.
TEST(BlockCost, AsyncTensorParallelismHoldsGradientsInPiecesAndJoined) {
  RunSpec run = run_of("debugmodel");
  run.mesh.degrees = {1, 1, 1, 1, 4};
  const int64_t kept = BlockCost(run).all_bytes();
  const std::vector<int64_t> plain = BlockCost(run).backward_bytes(kAll);
  run.async_tensor_parallel = true;
  std::vector<int64_t> more = BlockCost(run).backward_bytes(kAll);
  for (size_t i = 0; i < more.size(); ++i) more[i] -= plain[i];
  constexpr int64_t kGradient = 2 * 512 * 256 - 128 * 256;
  // Plain has for wo the joined gradient and that of the queries, and for w2 those of gate and up, a moment later.
  EXPECT_THAT(more, ElementsAre(0, 0, 4 * (kGradient + 512 * (2 * 512 - (512 + 256))), 0, 4 * kGradient));
  EXPECT_EQ(BlockCost(run).all_bytes(), kept);
}

TEST(BlockCost, RunningAllOfItAgainCostsAForward) {
  const RunSpec run = run_of("debugmodel");
  const BlockCost cost(run);
  EXPECT_EQ(cost.recomputed_flops(kAll), 0);
  // Of the products alone: 2 * (parameters of the block's matrices) a token, and attention at half its square.
  const double products = 512 * (2 * (256 * (2048 + 2 * 1024) + 2048 * 256 + 3 * 256 * 3072) + 2 * 2048.0 * 256);
  EXPECT_GT(cost.recomputed_flops({}), products);
  EXPECT_LT(cost.recomputed_flops({}), products * 1.02);
}

// Shapes at random, dense and not, in each precision.
class RandomBlock : public ::testing::TestWithParam<int> {
 protected:
  RandomBlock() {
    std::mt19937_64 random(GetParam());
    const auto pick = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low)); };
    run_.model = {.dim = 8 * pick(2, 200),
                  .layers = 2,
                  .heads = 4 * pick(1, 9),
                  .kv_heads = pick(1, 5),
                  .head_dim = 16 * pick(1, 9),
                  .ffn_hidden = 8 * pick(2, 400),
                  .vocab = 100};
    if (GetParam() % 2 == 1) {
      run_.model.experts = pick(2, 130);
      run_.model.experts_per_token = pick(1, 9);
      run_.model.expert_hidden = 8 * pick(2, 100);
      run_.model.norm_topk_prob = pick(0, 2) == 0;
    }
    run_.precision = static_cast<Precision>(pick(0, 3));
    run_.data.local_batch_size = pick(1, 5);
    run_.data.seq_len = 8 * pick(1, 1000);
    for (const std::string_view name : block_results(run_.model)) names_.emplace_back(name);
  }

  // Calls with every subset of the names from the i-th on, added to `kept`.
  template <typename Call>
  void for_subsets(const Call& call, KeptResults kept = {}, size_t i = 0) const {
    if (i == names_.size()) return call(kept);
    for_subsets(call, kept, i + 1);
    kept.insert(names_[i]);
    for_subsets(call, kept, i + 1);
  }

  RunSpec run_;
  std::vector<std::string> names_;
};

TEST_P(RandomBlock, ABudgetKeepsWhatCostsTheFewestFlopsOfAllThatFit) {
  const BlockCost cost(run_);
  double previous = cost.recomputed_flops({});
  for (int hundredths = 0; hundredths <= 100; hundredths += 5) {
    const double budget = hundredths / 100.0, most = budget * static_cast<double>(cost.all_bytes());
    const KeptResults chosen = cost.within(budget);
    EXPECT_TRUE(chosen.empty() || static_cast<double>(cost.kept_bytes(chosen)) <= most) << budget;
    for_subsets([&](const KeptResults& kept) {
      if (static_cast<double>(cost.kept_bytes(kept)) > most) return;
      EXPECT_LE(cost.recomputed_flops(chosen), cost.recomputed_flops(kept)) << budget;
    });
    EXPECT_LE(cost.recomputed_flops(chosen), previous) << budget << ": more memory, yet more is recomputed";
    previous = cost.recomputed_flops(chosen);
  }
}

TEST_P(RandomBlock, TheEndsOfTheBudgetAreFullAndNone) {
  const BlockCost cost(run_);
  EXPECT_THAT(cost.within(0), IsEmpty());
  EXPECT_THAT(cost.within(1), ::testing::ElementsAreArray(KeptResults(names_.begin(), names_.end())));
}

TEST_P(RandomBlock, NothingKeepsLessThanFullAndCostsMore) {
  const BlockCost cost(run_);
  for_subsets([&](const KeptResults& kept) {
    EXPECT_GE(cost.kept_bytes(kept), cost.kept_bytes({}));
    EXPECT_LE(cost.recomputed_flops(kept), cost.recomputed_flops({}));
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, RandomBlock, ::testing::Range(0, 24));

}  // namespace
}  // namespace qwen3::spec
