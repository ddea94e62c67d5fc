#include "model/moe.h"

#include <ATen/ATen.h>

#include <cmath>

#include "model/experts.h"
#include "model/swiglu.h"

namespace qwen3::model {
namespace {

std::string in_moe(int64_t layer, const char* rest) { return "layers." + std::to_string(layer) + ".moe." + rest; }

}  // namespace

std::string expert_bias_name(int64_t layer) { return in_moe(layer, "expert_bias"); }
std::string expert_counts_name(int64_t layer) { return in_moe(layer, "expert_counts"); }

Moe::Moe(const spec::ModelShape& shape, const spec::MoeSpec& spec, int64_t layer, ParameterSet& parameters,
         const Seams& seams)
    : seams_(seams),
      layer_(layer),
      experts_(shape.experts),
      options_{.experts_per_token = shape.experts_per_token, .normalise = shape.norm_topk_prob, .mode = spec.router},
      round_robin_(spec.force_load_balance),
      global_scope_(spec.aux_loss_scope == spec::MoeSpec::AuxLossScope::kGlobalBatch),
      router_(parameters.add(in_moe(layer, "router.gate.weight"), {experts_, shape.dim}, Init::kNormal)),
      w1_(parameters.add(in_moe(layer, "experts.w1"), {experts_, shape.expert_hidden, shape.dim}, Init::kNormal)),
      w2_(parameters.add(in_moe(layer, "experts.w2"), {experts_, shape.dim, shape.expert_hidden}, Init::kNormal,
                         residual_std(shape))),
      w3_(parameters.add(in_moe(layer, "experts.w3"), {experts_, shape.expert_hidden, shape.dim}, Init::kNormal)) {
  TORCH_CHECK_VALUE(options_.experts_per_token >= 1 && options_.experts_per_token <= experts_, "layer ", layer, ": ",
                    options_.experts_per_token, " experts per token wanted of ", experts_);
  if (spec.expert_bias) {
    expert_bias_ = &parameters.add_buffer(expert_bias_name(layer), {experts_}, Buffer::Kind::kReal);
  }
  if (spec.aux_loss_coeff > 0 && global_scope_) {
    previous_counts_ = &parameters.add_buffer(expert_counts_name(layer), {experts_}, Buffer::Kind::kCount);
  }
}

Moe::Choice Moe::choose(const at::Tensor& x, const RoutingContext& context) const {
  const at::Tensor bias = expert_bias_ != nullptr ? expert_bias_->value : at::Tensor();
  const bool again = context.replay != nullptr && context.replay->defined();
  at::Tensor given;
  if (again) {
    given = *context.replay;
  } else if (round_robin_) {
    given = round_robin(seams_.token_numbers(x), options_.experts_per_token, experts_);
  }
  const Routing routing = route(x.reshape({-1, x.size(-1)}), router_.weight, bias, options_, given);
  if (context.replay != nullptr) *context.replay = routing.chosen;
  Choice choice{routing.gates, routing.chosen};
  const bool recorded = context.record != nullptr && !again;
  if (!recorded && context.auxiliary_weight == 0) return choice;
  // Of the whole microbatch, whichever part of it is here; the sum is taken where the tokens are.
  RoutingRecord::Layer record;
  record.counts = seams_.token_sum(expert_counts(routing.chosen, experts_).to(x.device())).cpu();
  if (context.auxiliary_weight != 0) {
    const at::Tensor& counts = previous_counts_ != nullptr ? previous_counts_->value : record.counts;
    const double tokens = record.counts.sum().item<double>() / static_cast<double>(options_.experts_per_token);
    const at::Tensor mean_scores = seams_.token_sum(routing.scores.sum(0)) / tokens;
    const at::Tensor loss = balance_loss(mean_scores, counts) * context.auxiliary_weight;
    choice.gates = with_loss(choice.gates, loss);
    record.auxiliary_loss = loss.detach();
  }
  if (recorded) context.record->layers.at(static_cast<size_t>(layer_)) = std::move(record);
  return choice;
}

Moe::GateUp Moe::gate_up(const at::Tensor& rows, const at::Tensor& counts) const {
  return {grouped_linear(rows, w1_.weight, counts), grouped_linear(rows, w3_.weight, counts)};
}

at::Tensor Moe::combine(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& counts, const at::Tensor& gates,
                        const at::Tensor& order, const at::Tensor& route) const {
  return seams_.combine(grouped_linear(swiglu(gate, up), w2_.weight, counts), gates, order, route);
}

double residual_std(const spec::ModelShape& shape) {
  return shape.experts > 0 ? 0.02 / std::sqrt(2.0 * static_cast<double>(shape.layers)) : 0.02;
}

}  // namespace qwen3::model
