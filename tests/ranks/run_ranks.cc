#include "tests/ranks/run_ranks.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <exception>
#include <thread>
#include <vector>

namespace qwen3::testing {

void run_ranks(const spec::Mesh& mesh, const std::function<void(const parallel::DeviceMesh&)>& body) {
  const auto store = parallel::Rendezvous::in_process();
  const auto world = static_cast<size_t>(mesh.world_size());
  std::vector<std::string> errors(world);
  std::vector<std::thread> ranks;
  for (size_t rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      at::set_num_threads(1);
      try {
        const parallel::DeviceMesh device_mesh(mesh, static_cast<int64_t>(rank), store.get(),
                                               {.timeout = std::chrono::seconds(60)});
        body(device_mesh);
      } catch (const std::exception& e) {
        errors[rank] = e.what();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (size_t rank = 0; rank < world; ++rank) EXPECT_EQ(errors[rank], "") << "rank " << rank << " of " << world;
}

void run_axis(spec::Axis axis, int64_t size, const std::function<void(const parallel::MeshAxis&)>& body) {
  spec::Mesh mesh;
  mesh.degrees[static_cast<int>(axis)] = size;
  run_ranks(mesh, [&](const parallel::DeviceMesh& device_mesh) { body(device_mesh.axis(axis)); });
}

spec::Mesh data_parallel_mesh(int64_t replicate, int64_t shard) {
  spec::Mesh mesh;
  mesh.degrees[static_cast<int>(spec::Axis::kDpReplicate)] = replicate;
  mesh.degrees[static_cast<int>(spec::Axis::kDpShard)] = shard;
  return mesh;
}

}  // namespace qwen3::testing
