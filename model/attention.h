// The plain inner attention and the mask of packed documents.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/seams.h"

namespace qwen3::model {

// softmax(q k^T / sqrt(E)) v, causal, within documents where the mask says so; q [B, H, S, E], k and v [B, K, S, E].
// Heads h * K / H share k and v.
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask);

// positions [B, S] int64; `dtype` of q. Plain causal unless a document begins inside a sequence (position 0 at s > 0).
AttentionMask document_mask(const at::Tensor& positions, at::ScalarType dtype);

}  // namespace qwen3::model
