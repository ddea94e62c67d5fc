#include "worker/rank/wire.h"

#include <cstdio>

namespace qwen3::rank {

std::string hex(double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%a", value);
  return buffer;
}

namespace {

v1::StepSplit to_wire(const StepSplit& split) {
  v1::StepSplit wire;
  wire.set_compute_seconds(split.compute);
  wire.set_optimizer_seconds(split.optimizer);
  wire.set_data_seconds(split.data);
  wire.set_other_seconds(split.other);
  wire.mutable_wait_seconds()->insert(split.waits.begin(), split.waits.end());
  return wire;
}

}  // namespace

v1::StepReport to_wire(const StepMetrics& metrics) {
  v1::StepReport report;
  report.set_step(metrics.step);
  report.set_loss(metrics.loss);
  report.set_grad_norm(metrics.grad_norm);
  report.set_lr(metrics.lr);
  report.set_valid_tokens(metrics.valid_tokens);
  report.set_seconds(metrics.seconds);
  report.set_tokens_per_second(metrics.tokens_per_second);
  report.set_mfu(metrics.mfu);
  report.set_peak_memory_bytes(metrics.peak_memory_bytes);
  report.set_data_seconds(metrics.split.data);
  report.set_loss_hex(hex(metrics.loss));
  *report.mutable_split() = to_wire(metrics.split);
  *report.mutable_mean_split() = to_wire(metrics.mean_split);
  report.set_state_digest(metrics.state_digest);
  if (metrics.validation_loss) report.set_validation_loss(*metrics.validation_loss);
  if (metrics.experts) {
    v1::MoeReport& moe = *report.mutable_moe();
    moe.set_aux_loss(metrics.experts->auxiliary_loss);
    moe.mutable_max_over_mean()->Assign(metrics.experts->max_over_mean.begin(), metrics.experts->max_over_mean.end());
    moe.mutable_entropy()->Assign(metrics.experts->entropy.begin(), metrics.experts->entropy.end());
    moe.mutable_dead_experts()->Assign(metrics.experts->dead_experts.begin(), metrics.experts->dead_experts.end());
  }
  return report;
}

}  // namespace qwen3::rank
