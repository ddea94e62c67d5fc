// Ranks that all have the same tokens (tensor parallelism without sequence parallelism) divide them, and join the parts
// again. The parts are those of spec/layout.h's shard_rows: the last ones may be shorter, or empty.
#pragma once
#include <ATen/core/Tensor.h>

#include "parallel/mesh.h"

namespace qwen3::parallel {

// x [T, ...], the same on every rank of the axis -> this rank's rows. The gradient is every rank's, joined.
// Integers may be cut as well.
at::Tensor shard_tokens(const at::Tensor& x, const MeshAxis& axis);

// The inverse: this rank's rows of [tokens, ...] -> all, the same on every rank. The gradient, which is the same on
// every rank, is cut. Neither direction adds.
at::Tensor join_tokens(const at::Tensor& shard, int64_t tokens, const MeshAxis& axis);

}  // namespace qwen3::parallel
