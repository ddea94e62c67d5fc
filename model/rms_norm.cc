#include "model/rms_norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "model/precision.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const auto wide = accumulate_dtype(x.scalar_type());
    const at::Tensor wide_x = x.to(wide);
    const at::Tensor inverse_rms = wide_x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
    context->save_for_backward({x, weight, inverse_rms});
    return (wide_x * inverse_rms).mul_(weight.to(wide)).to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &inverse_rms = saved[2];
    const auto wide = inverse_rms.scalar_type();
    const at::Tensor normalised = x.to(wide) * inverse_rms;
    const at::Tensor gradient = gradients[0].to(wide);
    const at::Tensor along = gradient * normalised;
    at::Tensor weight_gradient = along.reshape({-1, x.size(-1)}).sum(0).to(weight.scalar_type());
    const at::Tensor wide_weight = weight.to(wide);
    // d/dx = (w g - n mean(w g n)) / rms, with n = x / rms.
    const at::Tensor mean = (along * wide_weight).mean(-1, /*keepdim=*/true);
    at::Tensor x_gradient = (gradient * wide_weight).addcmul_(normalised, mean, -1).mul_(inverse_rms);
    return {x_gradient.to(x.scalar_type()), weight_gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

RmsNorm::RmsNorm(ParameterSet& parameters, std::string name, int64_t dim, double eps)
    : eps_(eps), weight_(parameters.add(std::move(name), {dim}, Init::kOnes)) {}

}  // namespace qwen3::model
