#include "model/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

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
  if (!mask.bias.defined() && kernels::takes_causal_attention(by_position(q), by_position(k), by_position(v))) {
    return by_position(CausalAttentionFunction::apply(by_position(q), by_position(k), by_position(v)));
  }
  std::optional<at::Tensor> bias;
  if (mask.bias.defined()) bias = mask.bias;
  return at::scaled_dot_product_attention(q, k, v, bias, /*dropout_p=*/0, /*is_causal=*/!bias.has_value(),
                                          /*scale=*/std::nullopt, /*enable_gqa=*/q.size(1) != k.size(1));
}

// Numbers, not bool: of a bool mask scaled_dot_product_attention makes such numbers at every call, and every layer
// would keep its own for backward.
AttentionMask document_mask(const at::Tensor& positions, at::ScalarType dtype) {
  const int64_t length = positions.size(1);
  const at::Tensor starts = positions.eq(0);
  if (length < 2 || !starts.narrow(1, 1, length - 1).any().item<bool>()) return {};
  const at::Tensor document = starts.cumsum(1);  // [B, S]: number of the document, non-decreasing
  const at::Tensor forbidden = document.unsqueeze(2).eq(document.unsqueeze(1)).tril_().logical_not_();
  at::Tensor bias = at::zeros(forbidden.sizes(), positions.options().dtype(dtype));
  bias.masked_fill_(forbidden, -std::numeric_limits<double>::infinity());
  return {.bias = bias.unsqueeze(1)};
}

}  // namespace qwen3::model
