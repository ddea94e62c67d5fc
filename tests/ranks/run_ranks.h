// Ranks as threads of one process, over Gloo on loopback.
#pragma once
#include <functional>

#include "parallel/mesh.h"
#include "spec/mesh.h"

namespace qwen3::testing {

// Runs `body` once per rank of `mesh`, each in a thread with one OpenMP thread. What a rank throws fails the test, with
// its rank; its peers then end by the group's timeout.
void run_ranks(const spec::Mesh& mesh, const std::function<void(const parallel::DeviceMesh&)>& body);

// The same for ranks along one axis.
void run_axis(spec::Axis axis, int64_t size, const std::function<void(const parallel::MeshAxis&)>& body);

// A mesh of these data-parallel degrees.
spec::Mesh data_parallel_mesh(int64_t replicate, int64_t shard);

}  // namespace qwen3::testing
