// Expert parallelism: the experts are divided among the ranks of an axis and the tokens travel to them (GShard,
// arXiv:2006.16668, section 3.2; dropless: as many rows travel as the router asks for).
#pragma once
#include <memory>

#include "model/seams.h"
#include "parallel/expert/row_exchange.h"
#include "parallel/mesh.h"

namespace qwen3::parallel {

struct ExpertParallelOptions {
  // Rows of different sources stay apart, so that every expert computes what it would for each source alone: the rank's
  // weight gradients are the sources' gradients, added as a binary tree over the axis, neighbours first.
  // Otherwise one GEMM for each expert takes the rows of all sources.
  bool ordered = false;
  // Ranks that have the same tokens and therefore divide them: tp without sequence parallelism. Null: there are none.
  const MeshAxis* same_tokens = nullptr;
  std::shared_ptr<const RowExchange> exchange;  // null: all_to_all_exchange(ep)
};

// Replaces `dispatch` and `combine`. Rank r of ep holds the experts [r, r + 1) * E / ep; E must be a multiple of the
// size of ep. The same calls on every rank of ep, and of same_tokens.
void install_expert_parallel(model::Seams& seams, const MeshAxis& ep, const ExpertParallelOptions& options = {});

}  // namespace qwen3::parallel
