#include "model/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/attention.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// q [B, S, H, E], k and v [B, S, K, E] -> [B, S, H, E]; where kernels::takes_causal_attention.
struct CausalAttentionFunction : torch::autograd::Function<CausalAttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const auto [out, log_sum_exp] = kernels::causal_attention(q, k, v);
    context->save_for_backward({q, k, v, out, log_sum_exp});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    return kernels::causal_attention_backward(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4]);
  }
};

}  // namespace

at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask) {
  const auto by_position = [](const at::Tensor& x) { return x.transpose(1, 2); };  // [B, heads, S, E] and back
  if (!mask.allowed.defined() && kernels::takes_causal_attention(by_position(q), by_position(k), by_position(v))) {
    return by_position(CausalAttentionFunction::apply(by_position(q), by_position(k), by_position(v)));
  }
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
