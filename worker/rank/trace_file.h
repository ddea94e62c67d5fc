// Spans of a rank's timeline as a trace file that Perfetto and chrome://tracing open (Trace Event Format, JSON).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/timeline.h"

namespace qwen3::rank {

// The rank is the process of its events (pid). One track holds what the training thread did, nested: step N > data,
// compute, optimizer > forward U and backward U > wait AXIS; the collectives, which overlap, are asynchronous events
// "OPERATION AXIS". units: names by number. Times are microseconds since 1970, so that files of several ranks can be
// shown together. Written under another name and renamed. Throws std::runtime_error when it cannot be written.
void write_trace(const std::string& path, int64_t rank, const parallel::Timeline& timeline,
                 const parallel::Timeline::Kept& kept, const std::vector<std::string>& units);

}  // namespace qwen3::rank
