// The gated activation of the MLP (Shazeer 2020, arXiv:2002.05202).
#pragma once
#include <ATen/core/Tensor.h>

namespace qwen3::model {

// silu(gate) * up, in float32 or wider and rounded once. Both [..., F] -> [..., F]. The backward keeps gate and up
// only.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace qwen3::model
