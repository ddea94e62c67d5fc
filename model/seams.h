// Where parallelism enters the model. Each seam has a plain default; the model itself never mentions ranks.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace qwen3::model {

// Which positions may see each other, besides causality.
struct AttentionMask {
  // [B, 1, S, S] bool, true = may attend (causal and same document); undefined: plain causal.
  at::Tensor allowed;
};

// Inner attention: q [B, H, S, E], k and v [B, K, S, E] -> [B, H, S, E]. H may be local heads; H is a multiple of K.
using InnerAttention =
    std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask)>;

// How a Linear computes: x [..., in], weight [out, in] -> [..., out]. `name` is the parameter's.
using LinearFunction = std::function<at::Tensor(const at::Tensor& x, const at::Tensor& weight, std::string_view name)>;

// Around a unit (ParameterSet::units(), by index): runs `body` on x. FSDP gathers before and frees after,
// activation checkpointing recomputes. The default just calls body(x).
using Layer = std::function<at::Tensor(const at::Tensor& x)>;
using LayerDecorator = std::function<at::Tensor(size_t unit, const at::Tensor& x, const Layer& body)>;

struct Seams {
  LinearFunction linear;           // default: at::linear
  InnerAttention inner_attention;  // default: scaled_dot_product_attention
  LayerDecorator around;           // default: body(x)
};
Seams plain_seams();

}  // namespace qwen3::model
