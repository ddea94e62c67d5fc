#include "spec/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "spec/layout.h"

namespace qwen3::spec {
namespace {

using testing::ElementsAre;

TEST(Mesh, NeighbouringRanksDifferInTpAndPpIsOutermost) {
  const Mesh mesh{{/*pp=*/2, /*dp_replicate=*/1, /*dp_shard=*/3, /*cp=*/1, /*tp=*/2}};
  EXPECT_EQ(mesh.world_size(), 12);
  EXPECT_THAT(coordinates_of(mesh, 0), ElementsAre(0, 0, 0, 0, 0));
  EXPECT_THAT(coordinates_of(mesh, 1), ElementsAre(0, 0, 0, 0, 1));
  EXPECT_THAT(coordinates_of(mesh, 2), ElementsAre(0, 0, 1, 0, 0));
  EXPECT_THAT(coordinates_of(mesh, 6), ElementsAre(1, 0, 0, 0, 0));
}

TEST(Mesh, RankAndCoordinatesAreInverse) {
  const Mesh mesh{{2, 3, 4, 1, 2}};
  for (int64_t rank = 0; rank < mesh.world_size(); ++rank) EXPECT_EQ(rank_of(mesh, coordinates_of(mesh, rank)), rank);
}

TEST(Mesh, DataParallelRanksAreThoseOfTheTwoDpAxes) {
  EXPECT_EQ((Mesh{{5, 2, 3, 7, 11}}).data_parallel_size(), 6);
  EXPECT_EQ(axis_name(Axis::kDpShard), "dp_shard");
}

TEST(Layout, ShardsAreEqualRunsInOrderAndTheLastMayBeShortOrEmpty) {
  // 10 rows on 4 ranks: runs of ceil(10 / 4) = 3.
  EXPECT_EQ(shard_rows(10, 4, 0).begin, 0);
  EXPECT_EQ(shard_rows(10, 4, 0).end, 3);
  EXPECT_EQ(shard_rows(10, 4, 3).begin, 9);
  EXPECT_EQ(shard_rows(10, 4, 3).size(), 1);
  // 5 rows on 4 ranks: runs of 2, the last rank has none.
  EXPECT_EQ(shard_rows(5, 4, 2).size(), 1);
  EXPECT_EQ(shard_rows(5, 4, 3).size(), 0);
  EXPECT_EQ(shard_rows(0, 2, 1).size(), 0);
}

TEST(Layout, ShardsCoverEveryRowOnce) {
  for (const int64_t rows : {1, 7, 128, 151936}) {
    for (const int64_t degree : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int64_t index = 0; index < degree; ++index) {
        const RowRange range = shard_rows(rows, degree, index);
        EXPECT_EQ(range.begin, next);
        next = range.end;
      }
      EXPECT_EQ(next, rows) << rows << " rows on " << degree;
    }
  }
}

// The experts' mesh is folded over the ranks of dp_shard, cp and tp, ep innermost.
TEST(Mesh, ExpertParallelismBorrowsNeighbouringRanksOfAReplica) {
  const Mesh mesh{.degrees = {1, 2, 2, 1, 2}, .ep = 2};
  EXPECT_EQ(mesh.efsdp(), 2);
  EXPECT_EQ(ranks_along_ep(mesh, 5), (std::vector<int64_t>{4, 5}));  // the tensor-parallel pair
  EXPECT_EQ(ranks_along_efsdp(mesh, 5), (std::vector<int64_t>{5, 7}));
  EXPECT_EQ(ranks_of_replica(mesh, 5), (std::vector<int64_t>{4, 5, 6, 7}));
  EXPECT_EQ(ranks_along(mesh, 5, Axis::kDpReplicate), (std::vector<int64_t>{1, 5}));
  const Mesh all{.degrees = {1, 2, 2, 1, 2}, .ep = 4};
  EXPECT_EQ(ranks_along_ep(all, 2), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(ranks_along_efsdp(all, 2), (std::vector<int64_t>{2}));
}

}  // namespace
}  // namespace qwen3::spec
