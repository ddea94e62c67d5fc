#include "kernels/swiglu.h"

#include <ATen/ATen.h>

#include "kernels/cpu/dispatch.h"

namespace qwen3::kernels {

namespace reference {

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate).mul_(up); }

std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& gradient, const at::Tensor& gate,
                                                  const at::Tensor& up) {
  return {at::silu_backward(gradient * up, gate), at::silu(gate).mul_(gradient)};
}

}  // namespace reference

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  const cpu::RowKernels* kernels = cpu::row_kernels_for({gate, up});
  if (kernels == nullptr) return reference::swiglu(gate, up);
  const at::Tensor g = gate.contiguous(), u = up.contiguous();
  at::Tensor out = at::empty_like(g);
  cpu::for_rows(g.numel(), /*dim=*/1, [&](int64_t first, int64_t count) {
    kernels->swiglu(cpu::at_element(g, first), cpu::at_element(u, first), count, cpu::at_mutable_element(out, first));
  });
  return out;
}

std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& gradient, const at::Tensor& gate,
                                                  const at::Tensor& up) {
  const cpu::RowKernels* kernels = cpu::row_kernels_for({gradient, gate, up});
  if (kernels == nullptr) return reference::swiglu_backward(gradient, gate, up);
  const at::Tensor d = gradient.contiguous(), g = gate.contiguous(), u = up.contiguous();
  at::Tensor gate_gradient = at::empty_like(g), up_gradient = at::empty_like(u);
  cpu::for_rows(g.numel(), /*dim=*/1, [&](int64_t first, int64_t count) {
    kernels->swiglu_backward(cpu::at_element(d, first), cpu::at_element(g, first), cpu::at_element(u, first), count,
                             cpu::at_mutable_element(gate_gradient, first),
                             cpu::at_mutable_element(up_gradient, first));
  });
  return {gate_gradient, up_gradient};
}

}  // namespace qwen3::kernels
