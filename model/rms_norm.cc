#include "model/rms_norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "kernels/rms_norm.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const auto [y, inverse_rms] = kernels::rms_norm(x, weight, eps);
    context->save_for_backward({x, weight, inverse_rms});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto [x_gradient, weight_gradient] = kernels::rms_norm_backward(gradients[0], saved[0], saved[1], saved[2]);
    return {x_gradient, weight_gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

RmsNorm::RmsNorm(ParameterSet& parameters, std::string name, int64_t dim, double eps)
    : eps_(eps), weight_(parameters.add(std::move(name), {dim}, Init::kOnes)) {}

}  // namespace qwen3::model
