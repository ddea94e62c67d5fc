// Places a gang of ranks on the slots of workers: all of them or none. Pure and deterministic.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace qwen3::coordinator {

struct WorkerSlots {
  std::string worker;       // id
  std::string device_kind;  // a gang runs on one kind
  std::string build_id;     // and on one build
  int32_t slots = 0;        // present, used or not
  std::vector<int32_t> free;
  int32_t guests = 0;    // ranks there that have no slot
  bool resting = false;  // is given no ranks for a while; `free` is empty then
};

inline constexpr int32_t kNoSlot = -1;    // Place::slot of a rank that needs none
inline constexpr int32_t kMaxGuests = 4;  // of one worker, so that conversions do not starve its ranks of memory

struct Place {
  std::string worker;
  int32_t slot = 0;
  bool operator==(const Place&) const = default;
};

// The place of each rank. Ranks are contiguous per worker, on as few workers as fit. A rank whose place in `previous`
// (by rank, may be empty) is free keeps it. RESOURCE_EXHAUSTED: not enough free slots of one kind and build now; the
// message says what there is. FAILED_PRECONDITION: the present workers would not do even if they were idle.
absl::StatusOr<std::vector<Place>> allocate(int64_t ranks, const std::vector<WorkerSlots>& workers,
                                            const std::vector<Place>& previous);

// The place of one rank that needs no slot: the worker with the fewest such ranks, of those the one with the most free
// slots, of those the first by id. Errors as above: FAILED_PRECONDITION, no worker is there; RESOURCE_EXHAUSTED, every
// one rests or has kMaxGuests.
absl::StatusOr<Place> allocate_without_slot(const std::vector<WorkerSlots>& workers);

// What is left of `workers` once these places, which were allocated from them, are taken.
void take(const std::vector<Place>& places, std::vector<WorkerSlots>& workers);

}  // namespace qwen3::coordinator
