// Initial weights as functions of (seed, parameter name, global index), never of a generator's state, so that they are
// bitwise the same on every mesh and device. Philox4x32-10 (Salmon et al., SC 2011); key = hash(seed, name), counter =
// flat index / 4; Box-Muller in float64, rounded once to float32.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

#include "model/parameter.h"

namespace qwen3::model {

// Fills `slice` (contiguous float32 or float64, CPU) with the values of global flat indices [first, first + numel) of
// the parameter's tensor. Float64 gets the float32 values, so that precisions start from the same weights.
void fill_initial(at::Tensor slice, const Parameter& parameter, uint64_t seed, int64_t first);

}  // namespace qwen3::model
