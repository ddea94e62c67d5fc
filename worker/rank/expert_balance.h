// How a step keeps a mixture of experts balanced: counts what its routers chose, moves their bias, measures the load.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "model/moe.h"
#include "model/parameter.h"
#include "spec/run_spec.h"
#include "worker/rank/metrics/step_metrics.h"

namespace qwen3::rank {

// For a dense model everything is empty and nothing is done.
class ExpertBalance {
 public:
  // The buffers of the model: the bias and, for an auxiliary loss over the global batch, the counts. They must outlive
  // this.
  ExpertBalance(const spec::RunSpec& run, std::deque<model::Buffer>& buffers);

  // Forgets the step before.
  void begin_step();
  // Where the next microbatch's forward records what its routers do; null for a dense model.
  model::RoutingRecord* record() { return experts_ > 0 ? &record_ : nullptr; }
  // Takes that record. Returns the microbatch's auxiliary losses, layers added in order.
  double end_microbatch();

  // Choices of this rank's microbatches so far: [layers * E] int64.
  const at::Tensor& counts() const { return counts_; }

  // Once per step, before the weights are updated; `counts` [layers * E] are those of all ranks. Moves the bias of each
  // layer (model::balanced_bias) and keeps the counts for the next step's auxiliary loss.
  void update(const at::Tensor& counts);

  // Of the step whose counts over all ranks are given.
  std::optional<ExpertMetrics> metrics(const at::Tensor& counts, double auxiliary_loss) const;

 private:
  spec::MoeSpec spec_;
  int64_t layers_;
  int64_t experts_;
  std::vector<model::Buffer*> bias_, previous_counts_;  // by layer; empty: the run has none
  model::RoutingRecord record_;
  at::Tensor counts_;
};

}  // namespace qwen3::rank
