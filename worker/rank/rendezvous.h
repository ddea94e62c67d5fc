// How the ranks of an assignment find each other.
#pragma once
#include <memory>

#include "parallel/process_group.h"
#include "qwen3/internal/v1/rank.pb.h"
#include "spec/mesh.h"
#include "worker/rank/link.h"

namespace qwen3::rank {

// Throws std::runtime_error where the mesh has not as many ranks as the assignment.
void check_world_size(const internal::v1::RankAssignment& assignment, const spec::Mesh& mesh);

// The store of the attempt: rank 0 hosts it on a port it binds itself, the others are told the address. Null for a
// single rank.
std::shared_ptr<parallel::Rendezvous> rendezvous(const internal::v1::RankAssignment& assignment, Link& link);

parallel::GroupOptions group_options(const internal::v1::RankAssignment& assignment);

}  // namespace qwen3::rank
