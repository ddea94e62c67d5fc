// Every axis of a rank's mesh reaches the ranks that the arithmetic says, in their order.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/collectives.h"
#include "tests/ranks/run_ranks.h"

namespace qwen3::testing {
namespace {

std::vector<int64_t> ranks_on(const parallel::MeshAxis& axis, int64_t rank) {
  const at::Tensor all = parallel::all_gather(at::full({1}, rank, at::kLong), axis).flatten();
  const auto* first = all.const_data_ptr<int64_t>();
  return {first, first + all.numel()};
}

class Meshes : public ::testing::TestWithParam<spec::Mesh> {};

TEST_P(Meshes, AxesReachTheirRanks) {
  const spec::Mesh& shape = GetParam();
  run_ranks(shape, [&](const parallel::DeviceMesh& mesh) {
    const int64_t rank = mesh.rank();
    for (int a = 0; a < spec::kAxisCount; ++a) {
      const auto axis = static_cast<spec::Axis>(a);
      EXPECT_EQ(ranks_on(mesh.axis(axis), rank), spec::ranks_along(shape, rank, axis)) << spec::axis_name(axis);
    }
    EXPECT_EQ(ranks_on(mesh.ep(), rank), spec::ranks_along_ep(shape, rank));
    EXPECT_EQ(ranks_on(mesh.efsdp(), rank), spec::ranks_along_efsdp(shape, rank));
    EXPECT_EQ(ranks_on(mesh.replica(), rank), spec::ranks_of_replica(shape, rank));
    EXPECT_EQ(static_cast<int64_t>(ranks_on(mesh.world(), rank).size()), shape.world_size());
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, Meshes,
                         ::testing::Values(spec::Mesh{}, spec::Mesh{.degrees = {1, 1, 4, 1, 1}, .ep = 2},
                                           spec::Mesh{.degrees = {1, 1, 2, 1, 2}, .ep = 2},
                                           spec::Mesh{.degrees = {1, 2, 2, 1, 2}, .ep = 4},
                                           spec::Mesh{.degrees = {1, 2, 1, 1, 4}, .ep = 2},
                                           spec::Mesh{.degrees = {2, 1, 2, 2, 1}, .ep = 4}));

}  // namespace
}  // namespace qwen3::testing
