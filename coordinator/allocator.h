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
};

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

}  // namespace qwen3::coordinator
