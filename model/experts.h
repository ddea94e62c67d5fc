// A linear layer for each expert, over that expert's rows alone.
#pragma once
#include <ATen/core/Tensor.h>

namespace qwen3::model {

// y_r = weight[e] x_r for every row r of expert e. rows [N, in] sorted by expert, weight [E, out, in], counts [E] int64
// on the CPU with sum N: rows of each expert -> [N, out].
// Or counts [G, E]: rows of G groups one after the other, each sorted by expert. Then every (group, expert) has GEMMs
// of its own, and the groups' weight gradients are added as a binary tree over the groups, neighbours first: what G
// calls with one group each give, added up that way, bit for bit. float32 and float64: the exact path. One GEMM per
// expert, in forward and for each of the two gradients, never padded, merged or split, so that an expert's numbers
// depend on its own rows only. bfloat16 with counts [E]: grouped GEMMs (at::_grouped_mm). An expert without rows has
// the gradient zero.
at::Tensor grouped_linear(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& counts);

}  // namespace qwen3::model
