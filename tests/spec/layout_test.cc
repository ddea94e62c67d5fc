// How tensors lie over meshes: index maps against element-by-element counting, on random shapes and meshes.
#include "spec/layout.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>

namespace qwen3::spec {
namespace {

// All indices of a box, row-major.
std::vector<std::vector<int64_t>> indices_of(const Box& box) {
  std::vector<std::vector<int64_t>> all;
  if (box.empty()) return all;
  std::vector<int64_t> at = box.begin;
  for (int64_t i = 0; i < box.numel(); ++i) {
    all.push_back(at);
    for (size_t d = at.size(); d-- > 0;) {
      if (++at[d] < box.begin[d] + box.shape[d]) break;
      at[d] = box.begin[d];
    }
  }
  return all;
}

class Random {
 public:
  int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  Box box_in(const std::vector<int64_t>& shape) {
    Box box;
    for (const int64_t size : shape) {
      box.begin.push_back(between(0, size));
      box.shape.push_back(between(0, 3) == 0 ? size - box.begin.back() : between(0, size - box.begin.back()));
    }
    return box;
  }
  std::vector<int64_t> shape(int64_t most_dims, int64_t most) {
    std::vector<int64_t> shape;
    for (int64_t d = between(1, most_dims); d > 0; --d) shape.push_back(between(1, most));
    return shape;
  }

 private:
  std::mt19937 engine_{7};
};

TEST(Transfers, CopyWhatTwoBoxesHaveInCommonAndNothingElse) {
  Random random;
  for (int round = 0; round < 2000; ++round) {
    const std::vector<int64_t> shape = random.shape(4, 6);
    const Box from = random.box_in(shape), to = random.box_in(shape);
    std::map<int64_t, int64_t> want, got;  // of `to`, of `from`
    std::map<std::vector<int64_t>, int64_t> in_from;
    int64_t i = 0;
    for (const auto& index : indices_of(from)) in_from[index] = i++;
    i = 0;
    for (const auto& index : indices_of(to)) {
      if (const auto found = in_from.find(index); found != in_from.end()) want[i] = found->second;
      ++i;
    }
    for (const Transfer& run : transfers(from, to)) {
      ASSERT_GT(run.count, 0);
      for (int64_t k = 0; k < run.count; ++k) ASSERT_TRUE(got.emplace(run.to + k, run.from + k).second);
    }
    ASSERT_EQ(got, want);
  }
}

TEST(Transfers, WholeRowsAreOneRun) {
  EXPECT_EQ(transfers(whole_box({8, 5, 3}), {{2, 0, 0}, {4, 5, 3}}), (std::vector<Transfer>{{30, 0, 60}}));
  EXPECT_EQ(transfers(whole_box({8, 6}), {{0, 2}, {2, 3}}), (std::vector<Transfer>{{2, 0, 3}, {8, 3, 3}}));
  EXPECT_TRUE(transfers(whole_box({8}), {{8}, {0}}).empty());
}

// Names of every kind of parameter, with shapes that nothing divides.
std::vector<std::pair<std::string, std::vector<int64_t>>> some_parameters(Random& random) {
  const int64_t dim = random.between(1, 9), hidden = random.between(1, 9), experts = random.between(1, 9);
  return {{"tok_embeddings.weight", {random.between(1, 20), dim}}, {"lm_head.weight", {random.between(1, 20), dim}},
          {"layers.0.attention.wq.weight", {hidden, dim}},         {"layers.0.attention.wo.weight", {dim, hidden}},
          {"layers.0.feed_forward.w2.weight", {dim, hidden}},      {"layers.0.attention_norm.weight", {dim}},
          {"layers.0.attention.q_norm.weight", {hidden}},          {"layers.0.moe.router.gate.weight", {experts, dim}},
          {"layers.0.moe.experts.w1", {experts, hidden, dim}},     {"layers.0.moe.experts.w2", {experts, dim, hidden}}};
}

// Powers of two and others. What the rules refuse yet, cp, is held to the same.
Mesh random_mesh(Random& random) {
  Mesh mesh;
  mesh.degrees = {1, random.between(1, 3), random.between(1, 5), random.between(1, 3), random.between(1, 5)};
  const int64_t ranks = mesh.efsdp();  // of a replica, which ep divides: it is 1 here
  do {
    mesh.ep = random.between(1, ranks);
  } while (ranks % mesh.ep != 0);
  return mesh;
}

TEST(Layout, TheOwnersOfAReplicaHoldEveryElementOnce) {
  Random random;
  for (int round = 0; round < 300; ++round) {
    const Mesh mesh = random_mesh(random);
    const int64_t replica = mesh.efsdp() * mesh.ep;
    for (const auto& [name, shape] : some_parameters(random)) {
      const Layout layout = layout_of(name, shape, mesh);
      for (int64_t first = 0; first < mesh.world_size(); first += replica) {
        ASSERT_EQ(ranks_of_replica(mesh, first).size(), static_cast<size_t>(replica));
        std::map<std::vector<int64_t>, int> held;
        for (const int64_t rank : ranks_of_replica(mesh, first)) {
          const Box box = box_of(layout, mesh, rank);
          ASSERT_TRUE(is_inside(box, shape));
          ASSERT_EQ(intersection(box, piece_of(layout, mesh, rank)).numel(), box.numel()) << name;
          if (!owns(layout, mesh, rank)) continue;
          for (const auto& index : indices_of(box)) ++held[index];
        }
        ASSERT_EQ(static_cast<int64_t>(held.size()), whole_box(shape).numel()) << name;
        for (const auto& [index, times] : held) {
          ASSERT_EQ(times, 1) << name << ", degrees " << ::testing::PrintToString(mesh.degrees) << ", ep " << mesh.ep;
        }
      }
    }
  }
}

TEST(Layout, RanksOfOneShardAxisCutTheSamePiece) {
  Random random;
  for (int round = 0; round < 100; ++round) {
    const Mesh mesh = random_mesh(random);
    for (const auto& [name, shape] : some_parameters(random)) {
      const Layout layout = layout_of(name, shape, mesh);
      for (int64_t rank = 0; rank < mesh.world_size(); ++rank) {
        const auto peers = layout.shard.axis == LayoutAxis::kEfsdp ? ranks_along_efsdp(mesh, rank)
                                                                   : ranks_along(mesh, rank, Axis::kDpShard);
        int64_t held = 0;
        for (const int64_t peer : peers) {
          ASSERT_EQ(piece_of(layout, mesh, peer), piece_of(layout, mesh, rank)) << name;
          held += box_of(layout, mesh, peer).numel();
        }
        ASSERT_EQ(held, piece_of(layout, mesh, rank).numel()) << name;
      }
    }
  }
}

Mesh mesh_of(int64_t dp_shard, int64_t tp, int64_t ep) { return {.degrees = {1, 1, dp_shard, 1, tp}, .ep = ep}; }

TEST(Layout, TensorParallelismCutsColumnsRowsAndVocabulary) {
  const Mesh mesh = mesh_of(2, 2, 1);  // rank 3 is the second of both axes
  EXPECT_EQ(box_of(layout_of("layers.0.attention.wq.weight", {8, 6}, mesh), mesh, 3), (Box{{6, 0}, {2, 6}}));
  EXPECT_EQ(box_of(layout_of("layers.0.attention.wo.weight", {6, 8}, mesh), mesh, 3), (Box{{3, 4}, {3, 4}}));
  EXPECT_EQ(box_of(layout_of("tok_embeddings.weight", {7, 4}, mesh), mesh, 3), (Box{{6, 0}, {1, 4}}));
  EXPECT_EQ(box_of(layout_of("norm.weight", {6}, mesh), mesh, 3), (Box{{3}, {3}}));
  EXPECT_FALSE(owns(layout_of("norm.weight", {6}, mesh), mesh, 3));
  EXPECT_TRUE(layout_of("norm.weight", {6}, mesh, true).partial_over_tp);
  EXPECT_FALSE(layout_of("norm.weight", {6}, mesh, false).partial_over_tp);
  EXPECT_TRUE(layout_of("layers.0.attention.q_norm.weight", {6}, mesh, false).partial_over_tp);
  EXPECT_FALSE(layout_of("layers.0.attention.wo.weight", {6, 8}, mesh).partial_over_tp);
}

TEST(Layout, ExpertsAreCutOverEpOrTheirHiddenDimOverTp) {
  const auto w1 = [](const Mesh& mesh, int64_t rank) {
    return box_of(layout_of("layers.0.moe.experts.w1", {4, 6, 5}, mesh), mesh, rank);
  };
  EXPECT_EQ(w1(mesh_of(1, 2, 1), 1), (Box{{0, 3, 0}, {4, 3, 5}}));
  EXPECT_EQ(w1(mesh_of(2, 1, 2), 1), (Box{{2, 0, 0}, {2, 6, 5}}));  // efsdp is 1
  EXPECT_EQ(w1(mesh_of(4, 1, 2), 3), (Box{{3, 0, 0}, {1, 6, 5}}));  // second of ep, second of efsdp
  EXPECT_EQ(w1(mesh_of(4, 2, 2), 3), (Box{{2, 2, 0}, {2, 2, 5}}));  // two experts over four ranks: along their rows
  EXPECT_EQ(box_of(layout_of("layers.0.moe.experts.w2", {4, 5, 6}, mesh_of(1, 2, 1)), mesh_of(1, 2, 1), 1),
            (Box{{0, 0, 3}, {4, 5, 3}}));
}

// What the ordered sum rests on: the values an axis adds are a subtree, an aligned block of 2^j microbatches.
TEST(Microbatches, WhatAnAxisAddsIsAnAlignedBlock) {
  constexpr int64_t kReplicas = 2, kShards = 4, kPerRank = 2;
  for (const bool reduce_once : {false, true}) {
    std::set<int64_t> seen;
    for (int64_t replicate = 0; replicate < kReplicas; ++replicate) {
      for (int64_t k = 0; k < kPerRank; ++k) {
        for (int64_t shard = 0; shard < kShards; ++shard) {
          const int64_t m = global_microbatch(replicate, shard, k, kPerRank, kShards, reduce_once);
          seen.insert(m);
          if (reduce_once) {
            EXPECT_EQ(m / kPerRank, replicate * kShards + shard);  // a rank adds its own first
          } else {
            EXPECT_EQ(m / kShards, replicate * kPerRank + k);  // the shard axis adds after every microbatch
          }
          EXPECT_EQ(m / (kShards * kPerRank), replicate);  // the replicate axis once per step
        }
      }
    }
    EXPECT_EQ(seen.size(), 16u);  // a bijection onto 0 .. 15
    EXPECT_EQ(*seen.rbegin(), 15);
  }
}

}  // namespace
}  // namespace qwen3::spec
