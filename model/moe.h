// The mixture of experts that takes the place of a block's MLP: router, experts, and how they are balanced.
// y_t = sum over the k chosen experts e of gate_te * w2_e (silu(w1_e x_t) * w3_e x_t). Dropless; gates are applied
// after the experts.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/parameter.h"
#include "model/router.h"
#include "model/seams.h"
#include "spec/flavor.h"
#include "spec/run_spec.h"

namespace qwen3::model {

// What the routers of one training microbatch did, by layer. A router runs once even where its block is recomputed, so
// every token is counted once. All of it is of the whole microbatch, even where the router saw a part.
struct RoutingRecord {
  struct Layer {
    at::Tensor counts;          // [E] int64, on the CPU: choices that fell on each expert
    at::Tensor auxiliary_loss;  // scalar, as it joined the objective; undefined: none did
  };
  std::vector<Layer> layers;
};

// The auxiliary loss of a microbatch and the record; the defaults are those of evaluation.
struct RoutingContext {
  double auxiliary_weight = 0;      // factor of each layer's balance_loss in the objective; 0: it is not computed
  RoutingRecord* record = nullptr;  // sized by the caller
  // What one layer's router chose for the microbatch, [T, k]: undefined until its first run sets it. A later run, as
  // recomputation makes, repeats that choice and records nothing. Null: every run chooses.
  std::shared_ptr<at::Tensor> replay;
};

class Moe {
 public:
  // Adds "layers.<layer>.moe.*" to the unit begun last. `seams` must outlive this.
  Moe(const spec::ModelShape& shape, const spec::MoeSpec& spec, int64_t layer, ParameterSet& parameters,
      const Seams& seams);

  // x [..., D], T tokens in all -> gates and choices [T, k]; the auxiliary loss, if any, hangs on the gates.
  struct Choice {
    at::Tensor gates, chosen;
  };
  Choice choose(const at::Tensor& x, const RoutingContext& context) const;

  Dispatched dispatch(const at::Tensor& x, const at::Tensor& chosen) const {
    return seams_.dispatch(x, chosen, experts_);
  }
  // rows [N, D] -> gate and up [N, F].
  struct GateUp {
    at::Tensor gate, up;
  };
  GateUp gate_up(const at::Tensor& rows, const at::Tensor& counts) const;
  // -> [T, D]
  at::Tensor combine(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& counts, const at::Tensor& gates,
                     const at::Tensor& order, const at::Tensor& route) const;

 private:
  const Seams& seams_;
  int64_t layer_;
  int64_t experts_;  // E, of the whole model
  RouterOptions options_;
  bool round_robin_;  // instead of the router's choice
  bool global_scope_;
  const Parameter& router_;                  // [E, D]
  const Parameter &w1_, &w2_, &w3_;          // gate [E, F, D], down [E, D, F], up [E, F, D]
  const Buffer* expert_bias_ = nullptr;      // [E]
  const Buffer* previous_counts_ = nullptr;  // [E], of the step before, for the loss over the global batch
};

// Standard deviation of the initial weights that write to the residual stream (wo, w2): 0.02, and for a mixture of
// experts 0.02 / sqrt(2 * layers), as Megatron and torchtitan do.
double residual_std(const spec::ModelShape& shape);

// Names of a layer's buffers: "layers.<layer>.moe.expert_bias", "layers.<layer>.moe.expert_counts".
std::string expert_bias_name(int64_t layer);
std::string expert_counts_name(int64_t layer);

}  // namespace qwen3::model
