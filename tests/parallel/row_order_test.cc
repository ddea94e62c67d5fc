// The orders of exchanged rows against a stable sort of labelled rows, for random counts.
#include "parallel/expert/row_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace qwen3::parallel {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Row {
  int64_t source, expert, index;
  bool operator==(const Row&) const = default;
};

std::vector<Row> rows_by_source(const std::vector<int64_t>& counts, int64_t experts) {
  std::vector<Row> rows;
  for (int64_t i = 0; i < static_cast<int64_t>(counts.size()); ++i) {
    for (int64_t row = 0; row < counts[i]; ++row) rows.push_back({i / experts, i % experts, row});
  }
  return rows;
}

std::vector<Row> permuted(const std::vector<Row>& rows, const std::vector<int64_t>& order) {
  std::vector<Row> result;
  for (const int64_t row : order) result.push_back(rows[row]);
  return result;
}

TEST(RowOrder, ByExpertIsTheStableSortByExpertAndItsInverseTheWayBack) {
  std::mt19937_64 random(1);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int round = 0; round < 500; ++round) {
    const int64_t sources = 1 + below(6), experts = 1 + below(7);
    std::vector<int64_t> counts(static_cast<size_t>(sources * experts));
    for (int64_t& count : counts) count = below(3) == 0 ? 0 : below(9);
    const std::vector<Row> rows = rows_by_source(counts, experts);
    std::vector<Row> sorted = rows;
    std::stable_sort(sorted.begin(), sorted.end(), [](const Row& a, const Row& b) { return a.expert < b.expert; });

    const std::vector<int64_t> order = order_by_expert(counts, experts);
    ASSERT_EQ(order.size(), rows.size());
    EXPECT_EQ(permuted(rows, order), sorted);
    EXPECT_EQ(permuted(sorted, inverse_permutation(order)), rows);
  }
}

TEST(RowOrder, OfTwoSourcesAndThreeExperts) {
  const std::vector<int64_t> order = order_by_expert(std::vector<int64_t>{2, 0, 1, 1, 2, 0}, 3);
  EXPECT_THAT(order, ElementsAre(0, 1, 3, 4, 5, 2));
  EXPECT_THAT(inverse_permutation(order), ElementsAre(0, 1, 5, 2, 3, 4));
}

TEST(RowOrder, OfNoRows) { EXPECT_THAT(order_by_expert(std::vector<int64_t>(8, 0), 4), IsEmpty()); }

}  // namespace
}  // namespace qwen3::parallel
