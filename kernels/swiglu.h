// The gated activation of the MLP, forward and backward, in one pass each. No autograd: model/swiglu.h has it.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

namespace qwen3::kernels {

// silu(gate) * up, computed in float32 or wider and rounded once. Both of one shape and dtype.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

// The gradients of gate and up.
std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& gradient, const at::Tensor& gate,
                                                  const at::Tensor& up);

// The same in plain ATen operations, which round bfloat16 after each: for float64, other devices, and tests.
namespace reference {
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& gradient, const at::Tensor& gate,
                                                  const at::Tensor& up);
}  // namespace reference

}  // namespace qwen3::kernels
