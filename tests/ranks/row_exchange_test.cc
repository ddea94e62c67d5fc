// Rows that say where they come from and where they go.
#include "parallel/expert/row_exchange.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <random>
#include <vector>

#include "tests/ranks/run_ranks.h"

namespace qwen3::testing {
namespace {

using Counts = std::vector<std::vector<int64_t>>;  // by source, then destination

// None, one or a few rows for each pair of ranks; rank 1 gets none at all.
Counts random_counts(int64_t ranks, uint64_t seed) {
  std::mt19937_64 random(seed);
  Counts counts(static_cast<size_t>(ranks), std::vector<int64_t>(static_cast<size_t>(ranks)));
  for (auto& of_source : counts) {
    for (int64_t& count : of_source) count = static_cast<int64_t>(random() % 4);
    of_source[1] = 0;
  }
  return counts;
}

// [count, 3]: source, destination, index.
at::Tensor labelled(int64_t source, int64_t destination, int64_t count) {
  at::Tensor rows = at::empty({count, 3}, at::kLong);
  rows.select(1, 0).fill_(source);
  rows.select(1, 1).fill_(destination);
  rows.select(1, 2).copy_(at::arange(count));
  return rows;
}

struct Traffic {
  std::vector<int64_t> sent, received;
  at::Tensor leaving, arriving;  // labelled
};
Traffic traffic_of(const Counts& counts, int64_t rank) {
  Traffic traffic;
  std::vector<at::Tensor> leaving, arriving;
  for (int64_t other = 0; other < static_cast<int64_t>(counts.size()); ++other) {
    traffic.sent.push_back(counts[rank][other]);
    traffic.received.push_back(counts[other][rank]);
    leaving.push_back(labelled(rank, other, counts[rank][other]));
    arriving.push_back(labelled(other, rank, counts[other][rank]));
  }
  traffic.leaving = at::cat(leaving);
  traffic.arriving = at::cat(arriving);
  return traffic;
}

TEST(RowExchange, BringsEveryRowToItsRankAndItsGradientBack) {
  for (const int64_t ranks : {2, 4}) {
    spec::Mesh mesh = data_parallel_mesh(1, ranks);
    mesh.ep = ranks;
    run_ranks(mesh, [&](const parallel::DeviceMesh& device_mesh) {
      const auto exchange = parallel::all_to_all_exchange(device_mesh.ep());
      for (uint64_t seed = 0; seed < 10; ++seed) {
        const Counts counts = random_counts(ranks, seed);
        const Traffic traffic = traffic_of(counts, device_mesh.rank());
        const at::Tensor told = exchange->counts(at::tensor(traffic.sent, at::kLong).view({ranks, 1}), at::kCPU);
        EXPECT_TRUE(at::equal(told, at::tensor(traffic.received, at::kLong).view({ranks, 1})));
        for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {  // small integers are exact in each
          const at::Tensor leaving = traffic.leaving.to(dtype).requires_grad_();
          const at::Tensor arrived = exchange->rows(leaving, traffic.sent, traffic.received);
          EXPECT_TRUE(at::equal(arrived.detach(), traffic.arriving.to(dtype))) << dtype << ", seed " << seed;
          arrived.backward(traffic.arriving.to(dtype) * 2);
          EXPECT_TRUE(at::equal(leaving.grad(), traffic.leaving.to(dtype) * 2)) << dtype << ", seed " << seed;
        }
      }
    });
  }
}

}  // namespace
}  // namespace qwen3::testing
