// Output projection and cross entropy as one operation, in chunks of tokens: full logits never exist.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace qwen3::model {

inline constexpr int64_t kIgnoreIndex = -100;

// The loss of one chunk of tokens: logits [C, V], or as many of their columns as are here, and labels [C] -> the sum of
// the token losses, a scalar. With `want_gradient`, logits become d(scale * sum) / d(logits).
using ChunkLoss =
    std::function<at::Tensor(at::Tensor& logits, const at::Tensor& labels, double scale, bool want_gradient)>;
// The one that has all columns: softmax and cross entropy in float32 or wider.
at::Tensor cross_entropy_chunk(at::Tensor& logits, const at::Tensor& labels, double scale, bool want_gradient);

// scale * sum over the tokens with a label of -log softmax(hidden . weight^T)[label]; a scalar, float32 or float64.
// hidden [T, D], weight [V, D], labels [T] int64 (kIgnoreIndex: none). The last chunk may be shorter.
// Logits are a GEMM in the compute dtype, softmax and sums float32 or wider. Where a gradient is wanted, both
// gradients are computed here, chunk by chunk, already times `scale`; the backward hands them out, once.
// `chunk_loss` takes the place of the cross entropy where weight is only some rows of the head.
at::Tensor head_loss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, double scale,
                     int64_t chunk_tokens, const ChunkLoss& chunk_loss = cross_entropy_chunk);

}  // namespace qwen3::model
