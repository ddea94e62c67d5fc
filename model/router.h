// Which experts a token goes to and with what weight, and what keeps their load even.
// T tokens, E experts, k experts per token.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::model {

struct Routing {
  at::Tensor scores;  // [T, E], softmax over all experts; float32 or wider
  at::Tensor chosen;  // [T, k] int64, by falling score + bias; of equal ones the lower expert comes first
  at::Tensor gates;   // [T, k], from the scores without bias; float32 or wider
};

struct RouterOptions {
  int64_t experts_per_token = 1;  // k
  bool normalise = true;          // a token's gates are divided by their sum
  spec::MoeSpec::Router mode = spec::MoeSpec::Router::kFloat32;
};

// x [T, D], weight [E, D]; bias [E], or undefined for none. Differentiable in x and weight through scores and gates.
// kFloat32 takes everything in float32 or wider. kHfExact takes the logits in the dtype of x and rounds the gates to
// it, as Qwen3MoeSparseMoeBlock of Hugging Face's transformers 4 does. `given` [T, k], where defined, is chosen
// instead.
Routing route(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const RouterOptions& options,
              const at::Tensor& given = {});

// The k largest of each row [T, E], largest first; of equal ones the lower index comes first. [T, k] int64.
at::Tensor largest(const at::Tensor& preference, int64_t k);

// Every expert in turn: of the token of number n and its j-th choice (n k + j) mod E. numbers [...] -> [T, k].
at::Tensor round_robin(const at::Tensor& numbers, int64_t k, int64_t experts);

// How many of the choices [T, k] fell on each expert: [E] int64, on the CPU.
at::Tensor expert_counts(const at::Tensor& chosen, int64_t experts);

// The auxiliary loss of one layer and microbatch: E * sum_e f_e P_e, which is 1 when balanced. P_e, mean_scores [E], is
// the mean score of expert e over the microbatch's tokens; f_e = counts_e / sum(counts), or 1 / E when nothing was
// counted, carries no gradient. Source: Switch Transformers (Fedus et al. 2021, arXiv:2101.03961, eq. 4), with all k
// choices in f.
// Hugging Face's value is k times as large and mixes the layers before the product.
// counts are those of the same microbatch (scope "microbatch"), or of the whole previous optimizer step over all ranks
// (scope "global_batch"). The latter stands for the global-batch balance of Qiu et al. 2025 (arXiv:2501.11873), who
// take the frequencies of the current global batch: those are not known before its last microbatch has been routed, so
// they would make the gradient depend on how the batch is cut; the previous step's do not.
at::Tensor balance_loss(const at::Tensor& mean_scores, const at::Tensor& counts);

// gates, unchanged; their backward also gives `loss` (a scalar) the gradient 1. So a loss of an inner layer joins the
// objective without being carried to the end of the model.
at::Tensor with_loss(const at::Tensor& gates, const at::Tensor& loss);

// Balancing without a loss (Wang et al. 2024, arXiv:2408.15664), with torchtitan's re-centring: after
// delta = coeff * sign(mean(counts) - counts), bias + delta - mean(delta). Signs are taken from integers, the rest is
// float64 and rounded once. bias [E], counts [E] int64 over all microbatches and ranks of one step.
at::Tensor balanced_bias(const at::Tensor& bias, const at::Tensor& counts, double coeff);

}  // namespace qwen3::model
