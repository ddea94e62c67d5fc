#include "parallel/tensor/experts.h"

#include "model/dispatch.h"
#include "parallel/collectives.h"

namespace qwen3::parallel {
namespace {

constexpr int64_t kTokens = 0;  // the dim of T in [T, D] and [T, k]

}  // namespace

model::Dispatched dispatch_to_pieces(const at::Tensor& x, const at::Tensor& chosen, int64_t experts,
                                     const Border& border) {
  const at::Tensor all_chosen = border.sequence_parallel ? all_gather(chosen, kTokens, border.tp) : chosen;
  return model::local_dispatch(border.enter(x, kTokens), all_chosen, experts);
}

at::Tensor combine_pieces(const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order,
                          const Border& border) {
  // A gate's gradient is a product with a partial output, hence a partial sum: it crosses the border as x does.
  return border.leave(model::local_combine(outputs, border.enter(gates, kTokens), order), kTokens);
}

}  // namespace qwen3::parallel
