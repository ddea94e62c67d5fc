#include "worker/rank/wire.h"

#include <cstdio>

namespace qwen3::rank {

std::string hex(double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%a", value);
  return buffer;
}

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
  report.set_data_seconds(metrics.data_seconds);
  report.set_loss_hex(hex(metrics.loss));
  if (metrics.validation_loss) report.set_validation_loss(*metrics.validation_loss);
  return report;
}

}  // namespace qwen3::rank
