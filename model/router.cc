#include "model/router.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "model/precision.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct WithLossFunction : torch::autograd::Function<WithLossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gates, const at::Tensor& loss) {
    context->saved_data["dtype"] = loss.scalar_type();
    return gates.view_as(gates);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto dtype = context->saved_data["dtype"].toScalarType();
    return {gradients[0], at::ones({}, gradients[0].options().dtype(dtype))};
  }
};

}  // namespace

Routing route(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const RouterOptions& options,
              const at::Tensor& given) {
  const auto wide = accumulate_dtype(x.scalar_type());
  const bool exact = options.mode == spec::MoeSpec::Router::kHfExact;
  const at::Tensor logits = exact ? at::linear(x, weight) : at::linear(x.to(wide), weight.to(wide));
  Routing routing;
  routing.scores = at::softmax(logits, -1, wide);
  if (given.defined()) {
    routing.chosen = given;
  } else {
    const at::Tensor scores = routing.scores.detach();
    routing.chosen = largest(bias.defined() ? scores + bias : scores, options.experts_per_token);
  }
  routing.gates = routing.scores.gather(1, routing.chosen);
  if (options.normalise) routing.gates = routing.gates / routing.gates.sum(-1, /*keepdim=*/true);
  if (exact) routing.gates = routing.gates.to(x.scalar_type()).to(wide);
  return routing;
}

at::Tensor largest(const at::Tensor& preference, int64_t k) {
  const auto [values, order] = at::sort(preference, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return order.narrow(-1, 0, k).contiguous();
}

at::Tensor round_robin(const at::Tensor& numbers, int64_t k, int64_t experts) {
  return (numbers.reshape({-1, 1}) * k + at::arange(k, numbers.options())).remainder(experts);
}

at::Tensor expert_counts(const at::Tensor& chosen, int64_t experts) {
  return at::bincount(chosen.flatten(), /*weights=*/{}, /*minlength=*/experts).cpu();
}

at::Tensor balance_loss(const at::Tensor& mean_scores, const at::Tensor& counts) {
  const double total = counts.sum().item<double>();
  // E * f_e
  const at::Tensor relative_load = total > 0 ? counts.to(at::kDouble).mul_(static_cast<double>(counts.numel()) / total)
                                             : at::ones({counts.numel()}, at::kDouble);
  return (mean_scores * relative_load.to(mean_scores.options())).sum();
}

at::Tensor with_loss(const at::Tensor& gates, const at::Tensor& loss) { return WithLossFunction::apply(gates, loss); }

at::Tensor balanced_bias(const at::Tensor& bias, const at::Tensor& counts, double coeff) {
  // mean(counts) - counts has the sign of sum(counts) - E * counts, which is exact.
  const at::Tensor sign = (counts.sum() - counts * counts.numel()).sign().to(at::kDouble);
  return (bias.to(at::kDouble) + (sign - sign.mean()) * coeff).to(bias.scalar_type());
}

}  // namespace qwen3::model
