// The global gradient norm over all ranks: every element counts once, whatever its placement.
#pragma once
#include <ATen/core/Tensor.h>

#include "parallel/fsdp/sharded_model.h"

namespace qwen3::parallel {

// Sum of squares of each row of [rows, n], in float64, each row alone and in one fixed order: [rows].
at::Tensor row_square_sums(const at::Tensor& rows);

// L2 norm of the step's gradient, before clipping; the same value on every rank. When ordered, row sums are gathered
// and added in float64 in global row order, then tensors in name order, so the value does not depend on the mesh
// (design 6, rule 4; under tensor parallelism rows are split, and the last bits differ); otherwise each rank adds its
// own first.
double grad_norm(const ShardedModel& model, bool ordered);

}  // namespace qwen3::parallel
