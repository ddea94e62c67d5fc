#include "worker/rank/expert_balance.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "model/router.h"

namespace qwen3::rank {
namespace {

// Entropy of the distribution n / sum(n), in units of that of the even one.
double relative_entropy(const int64_t* n, int64_t experts, double total) {
  if (experts == 1) return 1;
  double entropy = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const double share = static_cast<double>(n[e]) / total;
    if (share > 0) entropy -= share * std::log(share);
  }
  return entropy / std::log(static_cast<double>(experts));
}

}  // namespace

ExpertBalance::ExpertBalance(const spec::RunSpec& run, std::deque<model::Buffer>& buffers)
    : spec_(run.moe),
      layers_(run.model.experts > 0 ? run.model.layers : 0),
      experts_(run.model.experts),
      counts_(at::zeros({layers_ * experts_}, at::kLong)) {
  const auto find = [&](const std::string& name, std::vector<model::Buffer*>& into) {
    for (model::Buffer& buffer : buffers) {
      if (buffer.name == name) into.push_back(&buffer);
    }
  };
  for (int64_t layer = 0; layer < layers_; ++layer) {
    find(model::expert_bias_name(layer), bias_);
    find(model::expert_counts_name(layer), previous_counts_);
  }
}

void ExpertBalance::begin_step() { counts_.zero_(); }

double ExpertBalance::end_microbatch() {
  double auxiliary_loss = 0;
  for (int64_t layer = 0; layer < layers_; ++layer) {
    const model::RoutingRecord::Layer& routed = record_.layers[static_cast<size_t>(layer)];
    counts_.narrow(0, layer * experts_, experts_).add_(routed.counts.to(at::kCPU));
    if (routed.auxiliary_loss.defined()) auxiliary_loss += routed.auxiliary_loss.item<double>();
  }
  return auxiliary_loss;
}

void ExpertBalance::update(const at::Tensor& counts) {
  c10::NoGradGuard no_grad;
  for (int64_t layer = 0; layer < layers_; ++layer) {
    const at::Tensor of_layer = counts.narrow(0, layer * experts_, experts_);
    if (!bias_.empty() && spec_.expert_bias_update) {
      at::Tensor& bias = bias_[static_cast<size_t>(layer)]->value;
      bias.copy_(model::balanced_bias(bias, of_layer.to(bias.device()), spec_.load_balance_coeff));
    }
    if (!previous_counts_.empty()) previous_counts_[static_cast<size_t>(layer)]->value.copy_(of_layer);
  }
}

std::optional<ExpertMetrics> ExpertBalance::metrics(const at::Tensor& counts, double auxiliary_loss) const {
  if (experts_ == 0) return std::nullopt;
  ExpertMetrics metrics{.auxiliary_loss = auxiliary_loss};
  for (int64_t layer = 0; layer < layers_; ++layer) {
    const int64_t* const n = counts.const_data_ptr<int64_t>() + layer * experts_;
    int64_t total = 0;
    for (int64_t e = 0; e < experts_; ++e) total += n[e];
    const auto busiest = static_cast<double>(*std::max_element(n, n + experts_));
    metrics.max_over_mean.push_back(busiest * static_cast<double>(experts_) / static_cast<double>(total));
    metrics.entropy.push_back(relative_entropy(n, experts_, static_cast<double>(total)));
    metrics.dead_experts.push_back(std::count(n, n + experts_, 0));
  }
  return metrics;
}

}  // namespace qwen3::rank
