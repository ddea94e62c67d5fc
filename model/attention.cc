#include "model/attention.h"

#include <ATen/ATen.h>

namespace qwen3::model {

at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask) {
  std::optional<at::Tensor> allowed;
  if (mask.allowed.defined()) allowed = mask.allowed;
  return at::scaled_dot_product_attention(q, k, v, allowed, /*dropout_p=*/0, /*is_causal=*/!allowed.has_value(),
                                          /*scale=*/std::nullopt, /*enable_gqa=*/q.size(1) != k.size(1));
}

AttentionMask document_mask(const at::Tensor& positions) {
  const int64_t length = positions.size(1);
  const at::Tensor starts = positions.eq(0);
  if (length < 2 || !starts.narrow(1, 1, length - 1).any().item<bool>()) return {};
  const at::Tensor document = starts.cumsum(1);  // [B, S]: number of the document, non-decreasing
  at::Tensor allowed = document.unsqueeze(2).eq(document.unsqueeze(1)).tril_();
  return {.allowed = allowed.unsqueeze(1)};
}

}  // namespace qwen3::model
