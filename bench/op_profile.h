// Where the time of this process goes, by ATen operation and autograd node, without Python's profiler.
#pragma once
#include <cstdint>
#include <ostream>

namespace qwen3::bench {

// From now on every operation is timed. Call once, while no operation runs.
void start_op_profile();

// Stops timing and prints, longest first, `self seconds a step, share, calls a step, name`. An operation that calls
// another is not charged for it; time between operations is in no row.
void print_op_profile(std::ostream& out, int64_t steps);

}  // namespace qwen3::bench
