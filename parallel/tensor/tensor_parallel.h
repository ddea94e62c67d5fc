// Tensor parallelism: every weight matrix of a layer is cut over the ranks of the tp axis (Megatron-LM, Shoeybi et al.
// 2019, arXiv:1909.08053). Who holds what: docs/parallelism.md.
#pragma once
#include "model/seams.h"
#include "parallel/mesh.h"

namespace qwen3::parallel {

struct TensorParallelOptions {
  bool sequence_parallel = true;  // activations between the cut layers are pieces along S (arXiv:2205.05198)
  bool loss_parallel = true;      // cross entropy over cut logits; false: a chunk's logits are gathered
  bool async = false;             // communication overlaps with multiplication, tensor/overlap.h
};

// Sets the seams of a model whose weights are cut over `tp`: linears, embedding, head_loss, dispatch, combine and, with
// sequence parallelism, token_sum and token_numbers. Each Parameter::weight must be this rank's piece: wq, wk, wv, w1,
// w3, embedding and head cut on dim 0 (the last two into runs of ceil(V / tp) rows), wo and w2 on dim 1, experts' w1
// and w3 on dim 1 and w2 on dim 2, all others whole. Then every tp rank gets the same bits of the loss and calls
// backward on it once. Its weights' gradients are those of its pieces; of whole weights, q_norm's and k_norm's are
// partial sums over tp, and with sequence parallelism so are the other norms' and the router's. Throws c10::ValueError
// for async without sequence parallelism.
void install_tensor_parallel(model::Seams& seams, const MeshAxis& tp, const TensorParallelOptions& options);

}  // namespace qwen3::parallel
