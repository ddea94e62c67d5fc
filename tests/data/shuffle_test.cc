#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "worker/rank/data/dataset.h"

namespace qwen3::data {
namespace {

std::vector<int64_t> epoch_of(uint64_t seed, int64_t sequences, int64_t epoch) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < sequences; ++i) {
    order.push_back(shuffled_index(seed, sequences, /*global_batch=*/1, /*step=*/1 + epoch * sequences + i, 0));
  }
  return order;
}

TEST(Shuffle, EachSequenceOccursExactlyOnceAnEpoch) {
  for (const int64_t sequences : {1, 2, 3, 5, 16, 17, 255, 1000, 4097}) {
    for (const int64_t epoch : {0, 1, 7}) {
      std::vector<int64_t> order = epoch_of(/*seed=*/3, sequences, epoch);
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < sequences; ++i) ASSERT_EQ(order[i], i) << sequences << " sequences, epoch " << epoch;
    }
  }
}

TEST(Shuffle, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  std::set<std::vector<int64_t>> orders;
  for (const uint64_t seed : {0, 1, 2}) {
    for (const int64_t epoch : {0, 1, 2}) orders.insert(epoch_of(seed, 50, epoch));
  }
  EXPECT_EQ(orders.size(), 9u);
}

// The stream of samples is cut into steps; how it is cut, and on how many ranks, changes nothing.
TEST(Shuffle, TheBatchSizeOnlyCutsTheStream) {
  for (int64_t sample = 0; sample < 60; ++sample) {
    const int64_t expected = shuffled_index(/*seed=*/5, /*sequences=*/13, /*global_batch=*/1, sample + 1, 0);
    EXPECT_EQ(shuffled_index(5, 13, /*global_batch=*/4, /*step=*/sample / 4 + 1, /*index=*/sample % 4), expected);
    EXPECT_EQ(shuffled_index(5, 13, /*global_batch=*/32, /*step=*/sample / 32 + 1, /*index=*/sample % 32), expected);
  }
}

TEST(Shuffle, EverySequenceIsAsLikelyAtEachPlace) {
  constexpr int64_t kSequences = 10;
  constexpr int64_t kSeeds = 20000;
  std::vector<int64_t> count(kSequences * kSequences);
  for (int64_t seed = 0; seed < kSeeds; ++seed) {
    for (int64_t place = 0; place < kSequences; ++place) {
      ++count[place * kSequences + shuffled_index(static_cast<uint64_t>(seed), kSequences, kSequences, 1, place)];
    }
  }
  const double expected = static_cast<double>(kSeeds) / kSequences;
  double chi_square = 0;
  for (const int64_t n : count) chi_square += std::pow(static_cast<double>(n) - expected, 2) / expected;
  // 81 degrees of freedom: mean 81, standard deviation 12.7; 140 is 4.6 of them. Deterministic, so it cannot flake.
  EXPECT_LT(chi_square, 140);
}

}  // namespace
}  // namespace qwen3::data
