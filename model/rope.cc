#include "model/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/norm_rotate.h"
#include "model/precision.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NormAndRotateFunction : torch::autograd::Function<NormAndRotateFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps,
                            const at::Tensor& cos, const at::Tensor& sin) {
    const auto [y, inverse_rms] = kernels::norm_rotate(x, weight, eps, cos, sin);
    context->save_for_backward({x, weight, inverse_rms, cos, sin});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto [x_gradient, weight_gradient] =
        kernels::norm_rotate_backward(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4]);
    return {x_gradient, weight_gradient, at::Tensor(), at::Tensor(), at::Tensor()};
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
