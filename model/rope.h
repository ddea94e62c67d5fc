// Rotary position embedding (Su et al. 2021, arXiv:2104.09864), rotate-half convention as in Hugging Face's Qwen3:
// dims i and i + E/2 of a head make one pair.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "spec/flavor.h"

namespace qwen3::model {

// Of one microbatch, shared by all layers: [B, S, E/2], float32 (float64 for a float64 model).
struct Rotary {
  at::Tensor cos;
  at::Tensor sin;
};

// positions [B, S] int64; angle of pair i at position p = p * theta^(-2i / head_dim). With `yarn` the slow pairs turn
// `factor` times slower and cos and sin are scaled (arXiv:2309.00071), as transformers computes it.
Rotary make_rotary(const at::Tensor& positions, int64_t head_dim, double theta, at::ScalarType compute_dtype,
                   const std::optional<spec::Yarn>& yarn = std::nullopt);

// RMSNorm over E with `weight` [E], then the rotation, both in float32 or wider and rounded once.
// x [B, S, heads, E] -> the same shape and dtype. The backward keeps x and one number per head and position.
at::Tensor norm_and_rotate(const at::Tensor& x, const at::Tensor& weight, double eps, const Rotary& rotary);

}  // namespace qwen3::model
