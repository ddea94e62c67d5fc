// The trainer's plain structs as protobuf messages.
#pragma once
#include "qwen3/v1/watch.pb.h"
#include "worker/rank/metrics/step_metrics.h"

namespace qwen3::rank {

v1::StepReport to_wire(const StepMetrics& metrics);

// Exact value as a C99 hexadecimal float.
std::string hex(double value);

}  // namespace qwen3::rank
