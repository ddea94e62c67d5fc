#include "kernels/norm_rotate.h"

#include <ATen/ATen.h>

#include "kernels/cpu/dispatch.h"
#include "kernels/rms_norm.h"

namespace qwen3::kernels {
namespace {

// x [B, S, heads, E] turned by the angles, or by their transpose for `direction` = -1.
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

const cpu::RowKernels* kernels_for(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
                                   const at::Tensor& cos) {
  return cos.scalar_type() == at::kFloat ? cpu::row_kernels_for({gradient, x, weight}) : nullptr;
}

}  // namespace

namespace reference {

std::pair<at::Tensor, at::Tensor> norm_rotate(const at::Tensor& x, const at::Tensor& weight, double eps,
                                              const at::Tensor& cos, const at::Tensor& sin) {
  const auto wide = cos.scalar_type();
  const auto [normed, inverse_rms] = rms_norm(x.to(wide), weight.to(wide), eps);
  return {rotate(normed, cos, sin, 1).to(x.scalar_type()), inverse_rms};
}

std::pair<at::Tensor, at::Tensor> norm_rotate_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                       const at::Tensor& weight, const at::Tensor& inverse_rms,
                                                       const at::Tensor& cos, const at::Tensor& sin) {
  const auto wide = cos.scalar_type();
  const auto [x_gradient, weight_gradient] =
      rms_norm_backward(rotate(gradient.to(wide), cos, sin, -1), x.to(wide), weight.to(wide), inverse_rms);
  return {x_gradient.to(x.scalar_type()), weight_gradient.to(weight.scalar_type())};
}

}  // namespace reference

std::pair<at::Tensor, at::Tensor> norm_rotate(const at::Tensor& x, const at::Tensor& weight, double eps,
                                              const at::Tensor& cos, const at::Tensor& sin) {
  const cpu::RowKernels* kernels = kernels_for(x, x, weight, cos);
  if (kernels == nullptr) return reference::norm_rotate(x, weight, eps, cos, sin);
  const at::Tensor in = x.contiguous(), scale = weight.contiguous(), c = cos.contiguous(), s = sin.contiguous();
  at::Tensor out = at::empty_like(in);
  const int64_t heads = in.size(2), dim = in.size(3), rows = in.size(0) * in.size(1) * heads;
  at::Tensor inverse_rms = at::empty({in.size(0), in.size(1), heads, 1}, c.options());
  cpu::for_rows(rows, dim, [&](int64_t first, int64_t count) {
    kernels->norm_rotate(cpu::at_element(in, first * dim), scale.const_data_ptr(), c.const_data_ptr<float>(),
                         s.const_data_ptr<float>(), static_cast<float>(eps), first, count, heads, dim,
                         cpu::at_mutable_element(out, first * dim), inverse_rms.mutable_data_ptr<float>() + first);
  });
  return {out, inverse_rms};
}

std::pair<at::Tensor, at::Tensor> norm_rotate_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                       const at::Tensor& weight, const at::Tensor& inverse_rms,
                                                       const at::Tensor& cos, const at::Tensor& sin) {
  const cpu::RowKernels* kernels = kernels_for(gradient, x, weight, cos);
  if (kernels == nullptr) return reference::norm_rotate_backward(gradient, x, weight, inverse_rms, cos, sin);
  const at::Tensor g = gradient.contiguous(), in = x.contiguous(), scale = weight.contiguous();
  const at::Tensor c = cos.contiguous(), s = sin.contiguous();
  at::Tensor x_gradient = at::empty_like(in);
  const int64_t heads = in.size(2), dim = in.size(3);
  at::Tensor weight_gradient =
      cpu::sum_over_rows(inverse_rms.numel(), scale, [&](int64_t first, int64_t rows, float* sums) {
        kernels->norm_rotate_backward(cpu::at_element(g, first * dim), cpu::at_element(in, first * dim),
                                      scale.const_data_ptr(), inverse_rms.const_data_ptr<float>() + first,
                                      c.const_data_ptr<float>(), s.const_data_ptr<float>(), first, rows, heads, dim,
                                      cpu::at_mutable_element(x_gradient, first * dim), sums);
      });
  return {x_gradient, weight_gradient};
}

}  // namespace qwen3::kernels
