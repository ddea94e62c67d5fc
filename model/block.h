// One transformer block as a chain of named segments.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "model/moe.h"
#include "model/parameter.h"
#include "model/rms_norm.h"
#include "model/rope.h"
#include "model/seams.h"
#include "spec/flavor.h"

namespace qwen3::model {

// Of one microbatch, shared by all blocks.
struct BlockContext {
  Rotary rotary;
  AttentionMask mask;
  RoutingContext routing;
};

// h = x + wo(attention(norm(x))); y = h + w2(swiglu(w1(norm(h)), w3(norm(h)))), or h + moe(norm(h)).
class Block {
 public:
  // Adds its parameters, named "layers.<index>.*", as a unit. `seams` must outlive the block.
  Block(const spec::ModelShape& shape, const spec::MoeSpec& moe, int64_t index, ParameterSet& parameters,
        const Seams& seams);
  ~Block();

  // x [B, S, D] through all of them gives [B, S, D]. In order: qkv, attention, attention_residual, then gate_up,
  // mlp_residual; or router, dispatch, expert_gate_up, expert_residual. The block must outlive them, and each call is
  // for one run through it: what the router chose is kept with them, for runs of a segment again.
  std::vector<Segment> segments(const BlockContext& context) const;

 private:
  Results qkv(const Results& x, const BlockContext& context) const;                     // x -> x, q, k, v
  Results attention(const Results& x_q_k_v, const BlockContext& context) const;         // -> x, out [B, S, H*E]
  Results attention_residual(const Results& x_out, const BlockContext& context) const;  // -> h
  Results gate_up(const Results& h, const BlockContext& context) const;                 // -> h, gate, up [B, S, F]
  Results mlp_residual(const Results& h_gate_up, const BlockContext& context) const;    // -> y
  Results router(const Results& h, const BlockContext& context) const;  // -> h, normed [T, D], gates, chosen [T, k]
  Results dispatch(const Results& h_normed_gates_chosen, const BlockContext& context) const;  // -> h, gates, Dispatched
  Results expert_gate_up(const Results& h_gates_rows_counts_order_route,
                         const BlockContext& context) const;  // -> h, gates, counts, order, route, gate, up [N, F]
  Results expert_residual(const Results& h_gates_counts_order_route_gate_up,
                          const BlockContext& context) const;  // -> y

  const Seams& seams_;
  int64_t head_dim_;
  double norm_eps_;
  RmsNorm attention_norm_;
  const Parameter &wq_, &wk_, &wv_, &wo_;  // [H*E, D], [K*E, D], [K*E, D], [D, H*E]
  const Parameter &q_norm_, &k_norm_;      // [E]
  RmsNorm ffn_norm_;
  const Parameter *w1_ = nullptr, *w2_ = nullptr, *w3_ = nullptr;  // gate [F, D], down [D, F], up [F, D]
  std::unique_ptr<Moe> moe_;                                       // instead of the three
};

}  // namespace qwen3::model
