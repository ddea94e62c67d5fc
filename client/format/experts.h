// How the load of a mixture of experts reads in a table: one number for all layers.
#pragma once
#include <cstdint>

#include "qwen3/v1/watch.pb.h"

namespace qwen3::client {

double worst_expert_load(const v1::MoeReport& report);  // max / mean of the most uneven layer
int64_t dead_experts(const v1::MoeReport& report);      // of all layers

}  // namespace qwen3::client
