#include "kernels/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include "kernels/cpu/dispatch.h"

namespace qwen3::kernels {

namespace reference {

std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const auto wide = at::toOpMathType(x.scalar_type());
  const at::Tensor wide_x = x.to(wide);
  const at::Tensor inverse_rms = wide_x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
  return {(wide_x * inverse_rms).mul_(weight.to(wide)).to(x.scalar_type()), inverse_rms};
}

std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                    const at::Tensor& weight, const at::Tensor& inverse_rms) {
  const auto wide = inverse_rms.scalar_type();
  const at::Tensor normalised = x.to(wide) * inverse_rms;
  const at::Tensor wide_gradient = gradient.to(wide);
  const at::Tensor along = wide_gradient * normalised;
  at::Tensor weight_gradient = along.reshape({-1, x.size(-1)}).sum(0).to(weight.scalar_type());
  const at::Tensor wide_weight = weight.to(wide);
  // d/dx = (w g - n mean(w g n)) / rms, with n = x / rms.
  const at::Tensor mean = (along * wide_weight).mean(-1, /*keepdim=*/true);
  at::Tensor x_gradient = (wide_gradient * wide_weight).addcmul_(normalised, mean, -1).mul_(inverse_rms);
  return {x_gradient.to(x.scalar_type()), weight_gradient};
}

}  // namespace reference

std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const cpu::RowKernels* kernels = cpu::row_kernels_for({x, weight});
  if (kernels == nullptr) return reference::rms_norm(x, weight, eps);
  const at::Tensor in = x.contiguous(), scale = weight.contiguous();
  at::Tensor out = at::empty_like(in);
  std::vector<int64_t> row_shape = in.sizes().vec();
  row_shape.back() = 1;
  at::Tensor inverse_rms = at::empty(row_shape, in.options().dtype(at::kFloat));
  const int64_t dim = in.size(-1);
  cpu::for_rows(inverse_rms.numel(), dim, [&](int64_t first, int64_t rows) {
    kernels->norm(cpu::at_element(in, first * dim), scale.const_data_ptr(), static_cast<float>(eps), rows, dim,
                  cpu::at_mutable_element(out, first * dim), inverse_rms.mutable_data_ptr<float>() + first);
  });
  return {out, inverse_rms};
}

std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                    const at::Tensor& weight, const at::Tensor& inverse_rms) {
  const cpu::RowKernels* kernels = cpu::row_kernels_for({gradient, x, weight});
  if (kernels == nullptr) return reference::rms_norm_backward(gradient, x, weight, inverse_rms);
  const at::Tensor g = gradient.contiguous(), in = x.contiguous(), scale = weight.contiguous();
  at::Tensor x_gradient = at::empty_like(in);
  const int64_t dim = in.size(-1);
  at::Tensor weight_gradient =
      cpu::sum_over_rows(inverse_rms.numel(), scale, [&](int64_t first, int64_t rows, float* sums) {
        kernels->norm_backward(cpu::at_element(g, first * dim), cpu::at_element(in, first * dim),
                               scale.const_data_ptr(), inverse_rms.const_data_ptr<float>() + first, rows, dim,
                               cpu::at_mutable_element(x_gradient, first * dim), sums);
      });
  return {x_gradient, weight_gradient};
}

}  // namespace qwen3::kernels
