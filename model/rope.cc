#include "model/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "model/precision.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x [B, S, heads, E] turned by the angles, or back by `direction` = -1.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double direction) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor low = x.narrow(-1, 0, half), high = x.narrow(-1, half, half);
  const at::Tensor c = cos.unsqueeze(2), s = sin.unsqueeze(2);
  at::Tensor out = at::empty_like(x);
  at::Tensor out_low = out.narrow(-1, 0, half), out_high = out.narrow(-1, half, half);
  at::mul_out(out_low, low, c).addcmul_(high, s, -direction);
  at::mul_out(out_high, high, c).addcmul_(low, s, direction);
  return out;
}

struct NormAndRotateFunction : torch::autograd::Function<NormAndRotateFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps,
                            const at::Tensor& cos, const at::Tensor& sin) {
    const auto wide = cos.scalar_type();
    const at::Tensor wide_x = x.to(wide);
    const at::Tensor inverse_rms = wide_x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
    context->save_for_backward({x, weight, inverse_rms, cos, sin});
    return rotate((wide_x * inverse_rms).mul_(weight.to(wide)), cos, sin, 1).to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &inverse_rms = saved[2];
    const auto wide = inverse_rms.scalar_type();
    const at::Tensor gradient = rotate(gradients[0].to(wide), saved[3], saved[4], -1);
    const at::Tensor normalised = x.to(wide) * inverse_rms;
    const at::Tensor along = gradient * normalised;
    at::Tensor weight_gradient = along.reshape({-1, x.size(-1)}).sum(0).to(weight.scalar_type());
    const at::Tensor wide_weight = weight.to(wide);
    const at::Tensor mean = (along * wide_weight).mean(-1, /*keepdim=*/true);
    at::Tensor x_gradient = (gradient * wide_weight).addcmul_(normalised, mean, -1).mul_(inverse_rms);
    return {x_gradient.to(x.scalar_type()), weight_gradient, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

Rotary make_rotary(const at::Tensor& positions, int64_t head_dim, double theta, at::ScalarType compute_dtype) {
  const auto wide = accumulate_dtype(compute_dtype);
  // In the order of operations of Hugging Face's, so that float32 angles agree to the bit.
  const at::Tensor exponents = at::arange(0, head_dim, 2, at::TensorOptions().dtype(wide)) / double(head_dim);
  const at::Tensor frequencies = at::pow(theta, exponents).reciprocal();
  const at::Tensor angles = positions.to(wide).unsqueeze(-1) * frequencies.to(positions.device());
  return {.cos = angles.cos(), .sin = angles.sin()};
}

at::Tensor norm_and_rotate(const at::Tensor& x, const at::Tensor& weight, double eps, const Rotary& rotary) {
  return NormAndRotateFunction::apply(x, weight, eps, rotary.cos, rotary.sin);
}

}  // namespace qwen3::model
