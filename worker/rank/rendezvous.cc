#include "worker/rank/rendezvous.h"

#include <string>

namespace qwen3::rank {

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
