// RMSNorm of each head and rotary embedding as one operation, forward and backward. No autograd: model/rope.h has it.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

namespace qwen3::kernels {

// x [B, S, heads, E], weight [E] of the dtype of x; cos and sin [B, S, E/2] in float32 or wider. The norm over E, then
// dims i and i + E/2 turned by the angle of pair i; both in float32 or wider and rounded once.
// -> y like x, and 1 / rms [B, S, heads, 1] in the dtype of cos.
std::pair<at::Tensor, at::Tensor> norm_rotate(const at::Tensor& x, const at::Tensor& weight, double eps,
                                              const at::Tensor& cos, const at::Tensor& sin);

// The gradients of x and weight. The order in which rows are added does not depend on the number of threads.
std::pair<at::Tensor, at::Tensor> norm_rotate_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                       const at::Tensor& weight, const at::Tensor& inverse_rms,
                                                       const at::Tensor& cos, const at::Tensor& sin);

// The same in plain ATen operations: for float64, other devices, and tests.
namespace reference {
std::pair<at::Tensor, at::Tensor> norm_rotate(const at::Tensor& x, const at::Tensor& weight, double eps,
                                              const at::Tensor& cos, const at::Tensor& sin);
std::pair<at::Tensor, at::Tensor> norm_rotate_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                       const at::Tensor& weight, const at::Tensor& inverse_rms,
                                                       const at::Tensor& cos, const at::Tensor& sin);
}  // namespace reference

}  // namespace qwen3::kernels
