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

// Token rows brought to the experts that are here.
struct Dispatched {
  at::Tensor rows;    // [N, D], by expert, and of one expert by source token
  at::Tensor counts;  // [experts here] int64 on the CPU: rows of each; their sum is N
  at::Tensor order;   // what the combination needs to find its way back
};
// x [T, D], chosen [T, k] int64: which of `experts` each token goes to. Dropless, differentiable in x.
using ExpertDispatch = std::function<Dispatched(const at::Tensor& x, const at::Tensor& chosen, int64_t experts)>;
// y[t] = sum over j of gates[t, j] * (output of token t's j-th expert), added in float32 or wider in order of j.
// outputs [N, D] in the order of Dispatched::rows, gates [T, k] float32 or wider -> [T, D] in the dtype of outputs.
// Differentiable in outputs and gates.
using ExpertCombine =
    std::function<at::Tensor(const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order)>;

// Around a unit (ParameterSet::units(), by index): runs `body` on x. FSDP gathers before and frees after,
// activation checkpointing recomputes. The default just calls body(x).
using Layer = std::function<at::Tensor(const at::Tensor& x)>;
using LayerDecorator = std::function<at::Tensor(size_t unit, const at::Tensor& x, const Layer& body)>;

struct Seams {
  LinearFunction linear;           // default: at::linear
  InnerAttention inner_attention;  // default: scaled_dot_product_attention
  ExpertDispatch dispatch;         // default: all experts are here (model/dispatch.h)
  ExpertCombine combine;           // its inverse
  LayerDecorator around;           // default: body(x)
};
Seams plain_seams();

}  // namespace qwen3::model
