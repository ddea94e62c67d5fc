// How values cross the border of what tensor parallelism cuts (Megatron-LM, Shoeybi et al. 2019, arXiv:1909.08053, sec.
// 3; with sequence parallelism Korthikanti et al. 2022, arXiv:2205.05198, sec. 4.2.2). Each function is one collective
// in forward and its transpose in backward; a value is, on each rank of the axis,
//   whole (the same on all), a piece (along one dim, by rank), or a partial sum (their sum is the value).
// The gradient of a whole value used by cut weights is a partial sum, that of a partial sum is whole.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "parallel/mesh.h"

namespace qwen3::parallel {

inline constexpr int64_t kSequenceDim = 1;  // of S in [B, S, D]

// Pieces along `dim` -> whole. Backward: partial sums -> pieces.
at::Tensor gather(const at::Tensor& piece, int64_t dim, const MeshAxis& axis);
// Partial sums -> pieces along `dim`. Backward: pieces -> whole.
at::Tensor reduce_scatter(const at::Tensor& partial, int64_t dim, const MeshAxis& axis);
// Whole -> whole. Backward: partial sums -> whole.
at::Tensor replicate(const at::Tensor& whole, const MeshAxis& axis);
// Partial sums -> whole. Backward: whole -> whole.
at::Tensor reduce(const at::Tensor& partial, const MeshAxis& axis);

// The border as a model crosses it. Between the cut layers activations are pieces along the sequence (sequence
// parallelism) or whole.
struct Border {
  MeshAxis tp;
  bool sequence_parallel = true;

  // Into the cut layers, where every rank needs all tokens.
  at::Tensor enter(const at::Tensor& x, int64_t dim) const {
    return sequence_parallel ? gather(x, dim, tp) : replicate(x, tp);
  }
  // Out of them, where every rank has its part of a sum over the cut.
  at::Tensor leave(const at::Tensor& partial, int64_t dim) const {
    return sequence_parallel ? reduce_scatter(partial, dim, tp) : reduce(partial, tp);
  }
};

}  // namespace qwen3::parallel
