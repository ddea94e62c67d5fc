// Tensor parallelism whose communication hides behind its own multiplications ("async TP"; Wang et al. 2023, "Overlap
// Communication with Dependent Computation via Decomposition", ASPLOS, doi:10.1145/3567955.3567959).
// A gather and the multiplication behind it are cut by source rank: a piece is multiplied while the next is under way.
// A multiplication and the reduce-scatter behind it are cut by destination: a product travels while the next is made.
// Each piece is one GEMM, so results can differ by rounding from one GEMM over all rows. Weight gradients are one GEMM
// over all rows. Needs sequence parallelism.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "parallel/mesh.h"

namespace qwen3::parallel {

// gather(x, 1) . weight^T for each weight: x [B, S/size, in], each weight [out, in] -> [B, S, out] for each.
std::vector<at::Tensor> gather_linears(const at::Tensor& x, at::TensorList weights, const MeshAxis& axis);

// reduce_scatter(x . weight^T, 1): x [B, S, in], weight [out, in] -> [B, S/size, out].
at::Tensor linear_reduce_scatter(const at::Tensor& x, const at::Tensor& weight, const MeshAxis& axis);

}  // namespace qwen3::parallel
