// Causal attention in bfloat16 on CPU, forward and backward, with grouped-query heads. No autograd: model/attention.h
// has it. There is no reference here: ATen's scaled_dot_product_attention is what takes over elsewhere.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace qwen3::kernels {

// Whether the two below take these: bfloat16 on a CPU that multiplies bfloat16 without tiles (with them ATen's own is
// built on those), as many keys as queries, E a multiple of 32, and at least one head of keys for each thread.
bool takes_causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// softmax(q k^T / sqrt(E)) v, causal; q [B, S, H, E], k and v [B, S, K, E], heads h * K / H share k and v.
// -> out [B, S, H, E], and log sum exp of each row of scores, float32 [B, H, S]. Sums are float32.
std::pair<at::Tensor, at::Tensor> causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// The gradients of q, k and v. The same bits for every number of threads.
std::vector<at::Tensor> causal_attention_backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                                                  const at::Tensor& v, const at::Tensor& out,
                                                  const at::Tensor& log_sum_exp);

}  // namespace qwen3::kernels
