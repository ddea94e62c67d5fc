// Root-mean-square norm over the last dim, forward and backward, in one pass each. No autograd: model/rms_norm.h has
// it.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

namespace qwen3::kernels {

// y = x / sqrt(mean(x^2) + eps) * weight, computed in float32 or wider and rounded once.
// x [..., dim], weight [dim] of the dtype of x -> y like x, and 1 / rms [..., 1] in float32 or wider.
std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// The gradients of x and weight. The order in which rows are added does not depend on the number of threads.
std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                    const at::Tensor& weight, const at::Tensor& inverse_rms);

// The same in plain ATen operations: for float64, other devices, and tests.
namespace reference {
std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                    const at::Tensor& weight, const at::Tensor& inverse_rms);
}  // namespace reference

}  // namespace qwen3::kernels
