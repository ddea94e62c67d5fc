#include "model/dispatch.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "model/precision.h"
#include "model/router.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// sum over j of weight(j) * rows[order[t, j]], in float32 or wider, in order of j; [T, D] in the dtype of rows.
template <typename Weight>
at::Tensor sum_over_choices(const at::Tensor& rows, const at::Tensor& order, Weight&& weight) {
  const auto wide = accumulate_dtype(rows.scalar_type());
  at::Tensor sum;
  for (int64_t j = 0; j < order.size(1); ++j) {
    const at::Tensor term = weight(rows.index_select(0, order.select(1, j)).to(wide), j);
    sum = j == 0 ? term : sum.add_(term);
  }
  return sum.to(rows.scalar_type());
}

struct GatherRowsFunction : torch::autograd::Function<GatherRowsFunction> {
  // tokens [N]: the source token of each row.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& tokens,
                            const at::Tensor& order) {
    context->save_for_backward({order});
    return x.index_select(0, tokens);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor order = context->get_saved_variables()[0];
    return {sum_over_choices(gradients[0], order, [](at::Tensor row, int64_t) { return row; }), at::Tensor(),
            at::Tensor()};
  }
};

struct CombineFunction : torch::autograd::Function<CombineFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& outputs, const at::Tensor& gates,
                            const at::Tensor& order) {
    context->save_for_backward({outputs, gates, order});
    return sum_over_choices(outputs, order,
                            [&](const at::Tensor& row, int64_t j) { return row * gates.narrow(1, j, 1); });
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &outputs = saved[0], &gates = saved[1], &order = saved[2];
    const at::Tensor gradient = gradients[0].to(gates.scalar_type());
    at::Tensor outputs_gradient = at::empty_like(outputs), gates_gradient = at::empty_like(gates);
    for (int64_t j = 0; j < order.size(1); ++j) {
      const at::Tensor rows = order.select(1, j);
      gates_gradient.select(1, j).copy_((outputs.index_select(0, rows) * gradient).sum(-1));
      outputs_gradient.index_copy_(0, rows, (gradient * gates.narrow(1, j, 1)).to(outputs.scalar_type()));
    }
    return {outputs_gradient, gates_gradient, at::Tensor()};
  }
};

}  // namespace

Dispatched local_dispatch(const at::Tensor& x, const at::Tensor& chosen, int64_t experts) {
  const int64_t k = chosen.size(1);
  const at::Tensor by_expert = at::argsort(chosen.flatten(), /*stable=*/true, /*dim=*/0, /*descending=*/false);  // [N]
  at::Tensor order = at::empty_like(by_expert);
  order.index_copy_(0, by_expert, at::arange(by_expert.numel(), by_expert.options()));
  order = order.view_as(chosen);
  const at::Tensor tokens = at::floor_divide(by_expert, k);
  return {GatherRowsFunction::apply(x, tokens, order), expert_counts(chosen, experts), order, /*route=*/{}};
}

at::Tensor local_combine(const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order,
                         const at::Tensor&) {
  return CombineFunction::apply(outputs, gates, order);
}

}  // namespace qwen3::model
