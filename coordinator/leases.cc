#include "coordinator/leases.h"

#include <algorithm>

namespace qwen3::coordinator {

Leases::Leases(Bounds bounds, absl::Time boot)
    : bounds_(bounds), nothing_before_(boot + bounds.boot_grace), last_call_(boot) {}

void Leases::expect(const std::string& worker, absl::Time now) { deadlines_[worker] = now + bounds_.boot_grace; }

void Leases::heard(const std::string& worker, absl::Time now) { deadlines_[worker] = now + bounds_.lease; }

void Leases::disconnected(const std::string& worker, absl::Time now) {
  const auto known = deadlines_.find(worker);
  if (known != deadlines_.end()) known->second = now + bounds_.reconnect;
}

std::vector<std::string> Leases::expire(absl::Time now) {
  if (const absl::Duration gap = now - last_call_; gap > bounds_.frozen) {
    for (auto& [worker, deadline] : deadlines_) deadline += gap;
  }
  last_call_ = now;
  std::vector<std::string> lost;
  if (now < nothing_before_) return lost;
  for (const auto& [worker, deadline] : deadlines_) {
    if (deadline <= now) lost.push_back(worker);
  }
  for (const std::string& worker : lost) deadlines_.erase(worker);
  return lost;
}

}  // namespace qwen3::coordinator
