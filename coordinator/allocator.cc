#include "coordinator/allocator.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

// Workers of one device kind and one build.
struct Group {
  std::vector<const WorkerSlots*> workers;  // by id
  int64_t slots = 0;
  int64_t free = 0;
};

using GroupKey = std::pair<std::string, std::string>;

std::map<GroupKey, Group> group_by_kind(const std::vector<WorkerSlots>& workers) {
  std::map<GroupKey, Group> groups;
  for (const WorkerSlots& worker : workers) {
    Group& group = groups[{worker.device_kind, worker.build_id}];
    group.workers.push_back(&worker);
    group.slots += worker.slots;
    group.free += static_cast<int64_t>(worker.free.size());
  }
  for (auto& [key, group] : groups) {
    std::ranges::sort(group.workers, {}, [](const WorkerSlots* worker) { return worker->worker; });
  }
  return groups;
}

// Ranks whose old place is free in the group, and what else is free there.
struct Kept {
  std::vector<std::optional<Place>> places;  // by rank
  std::map<std::string, std::vector<int32_t>> free;
  int64_t count = 0;
};

Kept keep_survivors(int64_t ranks, const Group& group, const std::vector<Place>& previous) {
  Kept kept{.places = std::vector<std::optional<Place>>(ranks)};
  for (const WorkerSlots* worker : group.workers) {
    auto& free = kept.free[worker->worker] = worker->free;
    std::ranges::sort(free);
  }
  if (static_cast<int64_t>(previous.size()) != ranks) return kept;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const auto worker = kept.free.find(previous[rank].worker);
    if (worker == kept.free.end()) continue;
    const auto slot = std::ranges::find(worker->second, previous[rank].slot);
    if (slot == worker->second.end()) continue;
    worker->second.erase(slot);
    kept.places[rank] = previous[rank];
    ++kept.count;
  }
  return kept;
}

// Fills the ranks that have no place yet, in order: a worker that holds all that is left is taken at once (the one it
// fills best), otherwise the one with the most free slots first.
std::vector<Place> fill(Kept kept) {
  int64_t left = std::ranges::count_if(kept.places, [](const auto& place) { return !place; });
  std::vector<Place> places;
  std::string worker;
  for (std::optional<Place>& place : kept.places) {
    if (!place) {
      if (worker.empty() || kept.free[worker].empty()) {
        worker.clear();
        for (const auto& [id, free] : kept.free) {
          const int64_t have = static_cast<int64_t>(free.size());
          if (have == 0) continue;
          const int64_t best = worker.empty() ? 0 : static_cast<int64_t>(kept.free[worker].size());
          const bool better = have >= left ? best < left || have < best : best < left && have > best;
          if (worker.empty() || better) worker = id;
        }
      }
      auto& free = kept.free[worker];
      place = Place{worker, free.front()};
      free.erase(free.begin());
      --left;
    }
    places.push_back(*place);
  }
  return places;
}

}  // namespace

absl::StatusOr<std::vector<Place>> allocate(int64_t ranks, const std::vector<WorkerSlots>& workers,
                                            const std::vector<Place>& previous) {
  const auto groups = group_by_kind(workers);
  std::optional<Kept> best;
  int64_t most_slots = 0, most_free = 0;
  for (const auto& [key, group] : groups) {
    most_slots = std::max(most_slots, group.slots);
    most_free = std::max(most_free, group.free);
    if (group.free < ranks) continue;
    Kept kept = keep_survivors(ranks, group, previous);
    if (!best || kept.count > best->count) best = std::move(kept);
  }
  if (best) return fill(*std::move(best));
  if (most_slots < ranks) {
    return absl::FailedPreconditionError(absl::StrCat("needs ", ranks, ranks == 1 ? " slot" : " slots",
                                                      " of one device kind and build, but the connected workers have ",
                                                      most_slots));
  }
  return absl::ResourceExhaustedError(absl::StrCat("needs ", ranks, ranks == 1 ? " slot" : " slots",
                                                   " of one device kind and build, ", most_free, " of ", most_slots,
                                                   " are free"));
}

absl::StatusOr<Place> allocate_without_slot(const std::vector<WorkerSlots>& workers) {
  const auto order = [](const WorkerSlots& worker) {
    return std::make_tuple(worker.resting, worker.guests, -static_cast<int64_t>(worker.free.size()), worker.worker);
  };
  const auto best = std::ranges::min_element(workers, {}, order);
  if (best == workers.end()) return absl::FailedPreconditionError("needs a worker, but none is connected");
  if (best->resting) {
    return absl::ResourceExhaustedError(absl::StrCat("each of ", workers.size(), " connected workers rests"));
  }
  if (best->guests >= kMaxGuests) {
    return absl::ResourceExhaustedError(
        absl::StrCat("each of ", workers.size(), " connected workers runs ", kMaxGuests, " conversions already"));
  }
  return Place{best->worker, kNoSlot};
}

void take(const std::vector<Place>& places, std::vector<WorkerSlots>& workers) {
  for (const Place& place : places) {
    const auto worker = std::ranges::find(workers, place.worker, &WorkerSlots::worker);
    if (worker == workers.end()) continue;
    if (place.slot == kNoSlot) {
      ++worker->guests;
    } else {
      std::erase(worker->free, place.slot);
    }
  }
}

}  // namespace qwen3::coordinator
