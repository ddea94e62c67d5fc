// A mixture of experts whose experts are all on every tp rank, each cut along its hidden dim: w1 and w3 [E, F/tp, D],
// w2 [E, D, F/tp]. So every rank gives a partial sum of every token's output.
#pragma once
#include "model/seams.h"
#include "parallel/tensor/regions.h"

namespace qwen3::parallel {

// As model::ExpertDispatch says, for all tokens of the tp ranks: with sequence parallelism x and chosen are of this
// rank's tokens, and rows are those of the ranks' tokens behind each other.
model::Dispatched dispatch_to_pieces(const at::Tensor& x, const at::Tensor& chosen, int64_t experts,
                                     const Border& border);

// As model::ExpertCombine says; gates and the result are of this rank's tokens with sequence parallelism.
at::Tensor combine_pieces(const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order,
                          const Border& border);

}  // namespace qwen3::parallel
