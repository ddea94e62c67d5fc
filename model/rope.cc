#include "model/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numbers>

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

// Pair, as a real number, that makes `turns` whole turns over the original context.
double pair_that_turns(double turns, int64_t head_dim, double theta, const spec::Yarn& yarn) {
  const double positions_per_radian = static_cast<double>(yarn.original_max_position) / (turns * 2 * std::numbers::pi);
  return static_cast<double>(head_dim) * std::log(positions_per_radian) / (2 * std::log(theta));
}

// theta_powers [E/2]: theta^(2i / E). Fast pairs keep their frequency, slow ones are divided by the factor, and those
// between are blended; in the order of operations of transformers' _compute_yarn_parameters.
at::Tensor yarn_frequencies(const at::Tensor& theta_powers, int64_t head_dim, double theta, const spec::Yarn& yarn) {
  const double low = std::max(std::floor(pair_that_turns(yarn.beta_fast, head_dim, theta, yarn)), 0.0);
  double high = std::min(std::ceil(pair_that_turns(yarn.beta_slow, head_dim, theta, yarn)), double(head_dim - 1));
  if (high == low) high += 0.001;  // a step instead of a ramp
  const at::Tensor pairs = at::arange(head_dim / 2, theta_powers.options());
  const at::Tensor kept = 1 - ((pairs - low) / (high - low)).clamp(0, 1);
  return (theta_powers * yarn.factor).reciprocal() * (1 - kept) + theta_powers.reciprocal() * kept;
}

double attention_factor(const spec::Yarn& yarn) {
  if (yarn.attention_factor) return *yarn.attention_factor;
  return yarn.factor <= 1 ? 1.0 : 0.1 * std::log(yarn.factor) + 1;
}

}  // namespace

Rotary make_rotary(const at::Tensor& positions, int64_t head_dim, double theta, at::ScalarType compute_dtype,
                   const std::optional<spec::Yarn>& yarn) {
  const auto wide = accumulate_dtype(compute_dtype);
  // In the order of operations of Hugging Face's, so that float32 angles agree to the bit.
  const at::Tensor exponents = at::arange(0, head_dim, 2, at::TensorOptions().dtype(wide)) / double(head_dim);
  const at::Tensor powers = at::pow(theta, exponents);
  const at::Tensor frequencies = yarn ? yarn_frequencies(powers, head_dim, theta, *yarn) : powers.reciprocal();
  const at::Tensor angles = positions.to(wide).unsqueeze(-1) * frequencies.to(positions.device());
  if (!yarn) return {.cos = angles.cos(), .sin = angles.sin()};
  const double scale = attention_factor(*yarn);
  return {.cos = angles.cos().mul_(scale), .sin = angles.sin().mul_(scale)};
}

at::Tensor norm_and_rotate(const at::Tensor& x, const at::Tensor& weight, double eps, const Rotary& rotary) {
  return NormAndRotateFunction::apply(x, weight, eps, rotary.cos, rotary.sin);
}

}  // namespace qwen3::model
