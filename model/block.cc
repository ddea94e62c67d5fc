#include "model/block.h"

#include <ATen/ATen.h>

#include <array>
#include <span>
#include <string>

#include "model/swiglu.h"

namespace qwen3::model {
namespace {

std::string in_layer(int64_t index, std::string_view rest) {
  return "layers." + std::to_string(index) + "." + std::string(rest);
}

// Begins the block's unit before its first parameter is added.
ParameterSet& unit_of(ParameterSet& parameters, int64_t index) {
  parameters.begin_unit("layers." + std::to_string(index));
  return parameters;
}

// [B, S, heads*E] -> [B, S, heads, E], for however many heads are here.
at::Tensor split_heads(const at::Tensor& x, int64_t head_dim) { return x.view({x.size(0), x.size(1), -1, head_dim}); }

}  // namespace

Block::Block(const spec::ModelShape& shape, const spec::MoeSpec& moe, int64_t index, ParameterSet& parameters,
             const Seams& seams)
    : seams_(seams),
      head_dim_(shape.head_dim),
      norm_eps_(shape.norm_eps),
      attention_norm_(unit_of(parameters, index), in_layer(index, "attention_norm.weight"), shape.dim, shape.norm_eps),
      wq_(parameters.add(in_layer(index, "attention.wq.weight"), {shape.heads * head_dim_, shape.dim}, Init::kNormal)),
      wk_(parameters.add(in_layer(index, "attention.wk.weight"), {shape.kv_heads * head_dim_, shape.dim},
                         Init::kNormal)),
      wv_(parameters.add(in_layer(index, "attention.wv.weight"), {shape.kv_heads * head_dim_, shape.dim},
                         Init::kNormal)),
      wo_(parameters.add(in_layer(index, "attention.wo.weight"), {shape.dim, shape.heads * head_dim_}, Init::kNormal,
                         residual_std(shape))),
      q_norm_(parameters.add(in_layer(index, "attention.q_norm.weight"), {head_dim_}, Init::kOnes)),
      k_norm_(parameters.add(in_layer(index, "attention.k_norm.weight"), {head_dim_}, Init::kOnes)),
      ffn_norm_(parameters, in_layer(index, "ffn_norm.weight"), shape.dim, shape.norm_eps) {
  if (shape.experts > 0) {
    moe_ = std::make_unique<Moe>(shape, moe, index, parameters, seams);
    return;
  }
  w1_ = &parameters.add(in_layer(index, "feed_forward.w1.weight"), {shape.ffn_hidden, shape.dim}, Init::kNormal);
  w2_ = &parameters.add(in_layer(index, "feed_forward.w2.weight"), {shape.dim, shape.ffn_hidden}, Init::kNormal);
  w3_ = &parameters.add(in_layer(index, "feed_forward.w3.weight"), {shape.ffn_hidden, shape.dim}, Init::kNormal);
}

Block::~Block() = default;

std::vector<Segment> Block::segments(const BlockContext& context) const {
  using Run = Results (Block::*)(const Results& previous, const BlockContext& context) const;
  struct Part {
    std::string_view name;
    Run run;
  };
  static constexpr std::array<Part, 5> kDense = {{{"qkv", &Block::qkv},
                                                  {"attention", &Block::attention},
                                                  {"attention_residual", &Block::attention_residual},
                                                  {"gate_up", &Block::gate_up},
                                                  {"mlp_residual", &Block::mlp_residual}}};
  static constexpr std::array<Part, 7> kMoe = {{{"qkv", &Block::qkv},
                                                {"attention", &Block::attention},
                                                {"attention_residual", &Block::attention_residual},
                                                {"router", &Block::router},
                                                {"dispatch", &Block::dispatch},
                                                {"expert_gate_up", &Block::expert_gate_up},
                                                {"expert_residual", &Block::expert_residual}}};
  BlockContext own = context;
  if (moe_) own.routing.replay = std::make_shared<at::Tensor>();
  std::vector<Segment> segments;
  for (const Part& part : moe_ ? std::span<const Part>(kMoe) : std::span<const Part>(kDense)) {
    segments.push_back(
        {part.name, [this, own, run = part.run](const Results& previous) { return (this->*run)(previous, own); }});
  }
  return segments;
}

Results Block::qkv(const Results& x, const BlockContext& context) const {
  const at::Tensor normed = attention_norm_.forward(x[0]);
  const std::vector<at::Tensor> q_k_v = seams_.linears(normed, {&wq_, &wk_, &wv_});
  const auto heads = [&](int i) { return split_heads(q_k_v[i], head_dim_); };
  return {x[0], norm_and_rotate(heads(0), q_norm_.weight, norm_eps_, context.rotary),
          norm_and_rotate(heads(1), k_norm_.weight, norm_eps_, context.rotary), heads(2)};
}

Results Block::attention(const Results& x_q_k_v, const BlockContext& context) const {
  const auto heads_first = [&](int i) { return x_q_k_v[i].transpose(1, 2); };  // [B, heads, S, E]
  const at::Tensor out = seams_.inner_attention(heads_first(1), heads_first(2), heads_first(3), context.mask);
  return {x_q_k_v[0], out.transpose(1, 2).flatten(2)};
}

Results Block::attention_residual(const Results& x_out, const BlockContext&) const {
  return {x_out[0] + seams_.linears(x_out[1], {&wo_})[0]};
}

Results Block::gate_up(const Results& h, const BlockContext&) const {
  const at::Tensor normed = ffn_norm_.forward(h[0]);
  std::vector<at::Tensor> gate_up = seams_.linears(normed, {w1_, w3_});
  return {h[0], gate_up[0], gate_up[1]};
}

Results Block::mlp_residual(const Results& h_gate_up, const BlockContext&) const {
  return {h_gate_up[0] + seams_.linears(swiglu(h_gate_up[1], h_gate_up[2]), {w2_})[0]};
}

Results Block::router(const Results& h, const BlockContext& context) const {
  const at::Tensor normed = ffn_norm_.forward(h[0]);
  Moe::Choice choice = moe_->choose(normed, context.routing);
  return {h[0], normed.flatten(0, 1), choice.gates, choice.chosen};
}

Results Block::dispatch(const Results& h_normed_gates_chosen, const BlockContext&) const {
  const Results& in = h_normed_gates_chosen;
  const Dispatched to = moe_->dispatch(/*x=*/in[1], /*chosen=*/in[3]);
  return {in[0], in[2], to.rows, to.counts, to.order, to.route};
}

Results Block::expert_gate_up(const Results& h_gates_rows_counts_order_route, const BlockContext&) const {
  const Results& in = h_gates_rows_counts_order_route;
  Moe::GateUp out = moe_->gate_up(/*rows=*/in[2], /*counts=*/in[3]);
  return {in[0], in[1], in[3], in[4], in[5], out.gate, out.up};
}

Results Block::expert_residual(const Results& h_gates_counts_order_route_gate_up, const BlockContext&) const {
  const Results& in = h_gates_counts_order_route_gate_up;
  const at::Tensor y = moe_->combine(/*gate=*/in[5], /*up=*/in[6], /*counts=*/in[2], /*gates=*/in[1], /*order=*/in[3],
                                     /*route=*/in[4]);
  return {in[0] + y.view_as(in[0])};
}

}  // namespace qwen3::model
