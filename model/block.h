// One transformer block as a chain of named segments.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

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
};

// h = x + wo(attention(norm(x))); y = h + w2(swiglu(w1(norm(h)), w3(norm(h)))).
class Block {
 public:
  // Adds its parameters, named "layers.<index>.*", as a unit. `seams` must outlive the block.
  Block(const spec::ModelShape& shape, int64_t index, ParameterSet& parameters, const Seams& seams);

  at::Tensor forward(const at::Tensor& x, const BlockContext& context) const;  // [B, S, D] -> [B, S, D]

  // A segment maps the previous segment's results to its own. What a checkpointing, offload or overlap policy keeps,
  // recomputes or overlaps is named by these.
  using Results = std::vector<at::Tensor>;
  struct Segment {
    std::string_view name;
    Results (Block::*run)(const Results& previous, const BlockContext& context) const;
  };
  // In order: qkv, attention, attention_residual, gate_up, mlp_residual.
  static std::span<const Segment> segments();

 private:
  Results qkv(const Results& x, const BlockContext& context) const;                     // x -> x, q, k, v
  Results attention(const Results& x_q_k_v, const BlockContext& context) const;         // -> x, out [B, S, H*E]
  Results attention_residual(const Results& x_out, const BlockContext& context) const;  // -> h
  Results gate_up(const Results& h, const BlockContext& context) const;                 // -> h, gate, up [B, S, F]
  Results mlp_residual(const Results& h_gate_up, const BlockContext& context) const;    // -> y
  at::Tensor linear(const at::Tensor& x, const Parameter& weight) const;

  const Seams& seams_;
  int64_t head_dim_;
  double norm_eps_;
  RmsNorm attention_norm_;
  const Parameter &wq_, &wk_, &wv_, &wo_;  // [H*E, D], [K*E, D], [K*E, D], [D, H*E]
  const Parameter &q_norm_, &k_norm_;      // [E]
  RmsNorm ffn_norm_;
  const Parameter &w1_, &w2_, &w3_;  // gate [F, D], down [D, F], up [F, D]
};

}  // namespace qwen3::model
