// Where a step's seconds went, as text.
#pragma once
#include <string>

#include "qwen3/v1/job.pb.h"

namespace qwen3::client {

double wait_seconds(const v1::StepSplit& split);   // for peers, over all axes
double total_seconds(const v1::StepSplit& split);  // of the step
// "0.500 s: compute 0.400 (80%), wait dp_shard 0.050 (10%), optimizer ..., data ..., other ..."
std::string split_text(const v1::StepSplit& split);

}  // namespace qwen3::client
