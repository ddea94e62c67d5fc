// Where parallelism enters the model. Each seam has a plain default; the model itself never mentions ranks.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace qwen3::model {

struct Parameter;

// Which positions may see each other, besides causality.
struct AttentionMask {
  // [B, 1, S, S] in the compute dtype, added to the scores: 0 where attending is allowed (causal and same document),
  // else -infinity; undefined: plain causal.
  at::Tensor bias;
};

// Inner attention: q [B, H, S, E], k and v [B, K, S, E] -> [B, H, S, E]. H may be local heads; H is a multiple of K.
using InnerAttention =
    std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask)>;

// How linear layers on one input compute: x [..., in], each weight [out, in] -> [..., out] for each. What a weight is
// is told by its name ("layers.3.attention.wq.weight"); those of one call are of one kind.
using Linears =
    std::function<std::vector<at::Tensor>(const at::Tensor& x, std::initializer_list<const Parameter*> weights)>;

// Token embedding: ids [B, S] -> [B, S, D]; see embed().
using Embedding = std::function<at::Tensor(const Parameter& weight, const at::Tensor& ids)>;

// Output projection and cross entropy: hidden [B, S, D] after the final norm, labels [B, S] -> scalar; see head_loss().
using HeadLoss = std::function<at::Tensor(const at::Tensor& hidden, const Parameter& weight, const at::Tensor& labels,
                                          double scale)>;

// Token rows brought to the experts that are here.
struct Dispatched {
  at::Tensor rows;    // [N, D], by expert, and of one expert by source token; of several groups, one after the other
  at::Tensor counts;  // [experts here] or [groups, experts here] int64 on the CPU: rows of each; their sum is N
  // What the combination needs to find its way back.
  at::Tensor order;  // where each token's rows lie
  at::Tensor route;  // int64 on the CPU, how rows travelled; undefined where they did not
};
// x [T, D], chosen [T, k] int64: which of `experts` each token goes to. Dropless, differentiable in x.
using ExpertDispatch = std::function<Dispatched(const at::Tensor& x, const at::Tensor& chosen, int64_t experts)>;
// y[t] = sum over j of gates[t, j] * (output of token t's j-th expert), added in float32 or wider in order of j.
// outputs [N, D] in the order of Dispatched::rows, gates [T, k] float32 or wider -> [T, D] in the dtype of outputs.
// Differentiable in outputs and gates.
using ExpertCombine = std::function<at::Tensor(const at::Tensor& outputs, const at::Tensor& gates,
                                               const at::Tensor& order, const at::Tensor& route)>;

// What a router adds over the tokens it sees -> the same over all tokens of the microbatch, of which it may see a part.
// Any shape, real or int64; differentiable, each rank's tokens getting their own gradient.
using TokenSum = std::function<at::Tensor(const at::Tensor& sum)>;

// Of the tokens of x [..., D], their numbers among all of the microbatch, of which x may be a part: [...] int64.
using TokenNumbers = std::function<at::Tensor(const at::Tensor& x)>;

// Around a unit (ParameterSet::units(), by index): runs `body` on x. FSDP gathers before and frees after,
// activation checkpointing recomputes. The default just calls body(x).
using Layer = std::function<at::Tensor(const at::Tensor& x)>;
using LayerDecorator = std::function<at::Tensor(size_t unit, const at::Tensor& x, const Layer& body)>;

// A part of a block, bound to its microbatch: maps the results of the part before it to its own. What recomputation,
// offload or overlap keeps is named by these. `run` may be called again on equal results, also after the model's
// buffers have changed: it then makes the choices it made first, and records nothing.
using Results = std::vector<at::Tensor>;
struct Segment {
  std::string_view name;
  std::function<Results(const Results& previous)> run;
};
// Runs a block (of ParameterSet::units(), by index): x through all segments, whose last gives one result.
// The default calls them in turn.
using Chain = std::function<at::Tensor(size_t unit, const at::Tensor& x, std::vector<Segment> segments)>;

struct Seams {
  Linears linears;                 // default: at::linear
  Embedding embedding;             // default: embed
  HeadLoss head_loss;              // default: head_loss
  InnerAttention inner_attention;  // default: scaled_dot_product_attention
  ExpertDispatch dispatch;         // default: all experts are here (model/dispatch.h)
  ExpertCombine combine;           // its inverse
  TokenSum token_sum;              // default: all tokens are here
  TokenNumbers token_numbers;      // default: all tokens are here
  Chain chain;                     // default: one segment after the other
  LayerDecorator around;           // default: body(x)
};
Seams plain_seams();

}  // namespace qwen3::model
