#include "worker/rank/rendezvous.h"

#include <stdexcept>
#include <string>

namespace qwen3::rank {

void check_world_size(const internal::v1::RankAssignment& assignment, const spec::Mesh& mesh) {
  if (mesh.world_size() == assignment.world_size()) return;
  throw std::runtime_error("the mesh has " + std::to_string(mesh.world_size()) + " ranks, the assignment " +
                           std::to_string(assignment.world_size()));
}

std::shared_ptr<parallel::Rendezvous> rendezvous(const internal::v1::RankAssignment& assignment, Link& link) {
  if (assignment.world_size() == 1) return nullptr;
  const std::string prefix =
      assignment.job() + "/" + std::to_string(assignment.attempt()) + "/" + std::to_string(assignment.epoch());
  if (assignment.rank() == 0) {
    auto store = parallel::Rendezvous::host(/*port=*/0, assignment.world_size(), prefix);
    link.store_ready(store->port());
    return store;
  }
  return parallel::Rendezvous::join(link.store_address(), assignment.world_size(), prefix);
}

parallel::GroupOptions group_options(const internal::v1::RankAssignment& assignment) {
  parallel::GroupOptions options;
  options.address = assignment.advertise_address();
  options.interface = assignment.advertise_interface();
  return options;
}

}  // namespace qwen3::rank
