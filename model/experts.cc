#include "model/experts.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Grouped GEMMs want rows whose byte length is a multiple of 16.
bool is_grouped(const at::Tensor& rows, const at::Tensor& weight) {
  return rows.scalar_type() == at::kBFloat16 && weight.size(1) % 8 == 0 && weight.size(2) % 8 == 0;
}

// For each expert with rows: call(expert, first row, number of rows).
template <typename Call>
void for_each_expert(const at::Tensor& counts, Call&& call) {
  const auto count = counts.accessor<int64_t, 1>();
  int64_t first = 0;
  for (int64_t e = 0; e < count.size(0); ++e) {
    if (count[e] > 0) call(e, first, count[e]);
    first += count[e];
  }
}

void zero_experts_without_rows(const at::Tensor& weight_gradient, const at::Tensor& counts) {
  const auto count = counts.accessor<int64_t, 1>();
  for (int64_t e = 0; e < count.size(0); ++e) {
    if (count[e] == 0) weight_gradient[e].zero_();
  }
}

// Ends of the experts' runs of rows, as _grouped_mm wants them.
at::Tensor ends(const at::Tensor& counts, const at::Tensor& like) {
  return counts.cumsum(0, at::kInt).to(like.device());
}

// rows_e . weight[e], weight [E, in, out].
at::Tensor multiply(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& counts, bool grouped) {
  if (grouped) return at::_grouped_mm(rows, weight, ends(counts, rows));
  at::Tensor out = at::empty({rows.size(0), weight.size(2)}, rows.options());
  for_each_expert(counts, [&](int64_t e, int64_t first, int64_t count) {
    at::Tensor of_expert = out.narrow(0, first, count);
    at::mm_out(of_expert, rows.narrow(0, first, count), weight[e]);
  });
  return out;
}

struct GroupedLinearFunction : torch::autograd::Function<GroupedLinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const at::Tensor& weight,
                            const at::Tensor& counts) {
    context->save_for_backward({rows, weight, counts});
    return multiply(rows, weight.transpose(1, 2), counts, is_grouped(rows, weight));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &weight = saved[1], &counts = saved[2];
    const at::Tensor gradient = gradients[0].contiguous();
    const bool grouped = is_grouped(rows, weight);
    at::Tensor rows_gradient, weight_gradient;
    if (context->needs_input_grad(0)) rows_gradient = multiply(gradient, weight, counts, grouped);
    if (context->needs_input_grad(1)) {
      if (grouped) {
        weight_gradient = at::_grouped_mm(gradient.t(), rows, ends(counts, rows));
      } else {
        weight_gradient = at::empty_like(weight);
        for_each_expert(counts, [&](int64_t e, int64_t first, int64_t count) {
          at::Tensor of_expert = weight_gradient[e];
          at::mm_out(of_expert, gradient.narrow(0, first, count).t(), rows.narrow(0, first, count));
        });
      }
      zero_experts_without_rows(weight_gradient, counts);
    }
    return {rows_gradient, weight_gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor grouped_linear(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& counts) {
  return GroupedLinearFunction::apply(rows, weight, counts);
}

}  // namespace qwen3::model
