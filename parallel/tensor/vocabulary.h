// Embedding and head of which each tp rank holds some rows (Megatron-LM, arXiv:1909.08053, sec. 3).
// V rows are cut into runs of ceil(V / tp); the last is shorter where tp does not divide V.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/loss.h"
#include "model/parameter.h"
#include "parallel/tensor/regions.h"

namespace qwen3::parallel {

// The rows of the vocabulary that this rank holds.
struct VocabularyPiece {
  VocabularyPiece(int64_t vocab, const MeshAxis& tp);
  int64_t vocab;  // V
  int64_t rows;   // of every rank but the last: ceil(V / tp)
  int64_t begin;  // first row of this rank
};

// ids [B, S] -> [B, S, D], or with sequence parallelism this rank's piece of it along S. The sum over ranks has one
// term that is not zero, so it is exact; gradients as model::embed gives them.
at::Tensor embed_piece(const model::Parameter& weight, const at::Tensor& ids, const Border& border);

// Head and cross entropy: hidden [B, S, D] or its piece along S, labels [B, S] -> scalar, the same bits on all ranks.
// Chunks as in model::head_loss. Of each chunk the ranks exchange three numbers a token: largest logit, sum of
// exponentials and logit of the label. Without `loss_parallel` they exchange the chunk's logits instead.
at::Tensor head_loss_piece(const at::Tensor& hidden, const model::Parameter& weight, const at::Tensor& labels,
                           double scale, int64_t chunk_tokens, bool loss_parallel, const Border& border);

// hidden [B, S, D] or its piece along S -> [B, S, V], whole. Each rank's gradient of it must be the whole gradient.
at::Tensor logits_of_pieces(const at::Tensor& hidden, const model::Parameter& weight, const Border& border);

}  // namespace qwen3::parallel
