#include "model/embedding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "model/precision.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct EmbedFunction : torch::autograd::Function<EmbedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& weight, const at::Tensor& ids) {
    context->save_for_backward({ids});
    context->saved_data["rows"] = weight.size(0);
    return at::embedding(weight, ids);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor ids = context->get_saved_variables()[0];
    const at::Tensor& gradient = gradients[0];
    const int64_t rows = context->saved_data["rows"].toInt();
    // ATen gives each thread a range of rows and adds in order of position.
    const auto add_rows = [](const at::Tensor& values, const at::Tensor& row, int64_t count) {
      return at::embedding_dense_backward(values, row, count, /*padding_idx=*/-1, /*scale_grad_by_freq=*/false);
    };
    const auto wide = accumulate_dtype(gradient.scalar_type());
    if (gradient.scalar_type() == wide) return {add_rows(gradient, ids, rows), at::Tensor()};
    // Only the rows that occur are kept in the wide dtype.
    const auto [present, row, counts] = at::_unique2(ids, /*sorted=*/true, /*return_inverse=*/true);
    const at::Tensor sums = add_rows(gradient.to(wide), row, present.numel()).to(gradient.scalar_type());
    at::Tensor whole = at::zeros({rows, gradient.size(-1)}, gradient.options());
    return {whole.index_copy_(0, present, sums), at::Tensor()};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& weight, const at::Tensor& ids) { return EmbedFunction::apply(weight, ids); }

}  // namespace qwen3::model
