// Runs optimizer steps. Start reading at Trainer::step.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/parameter.h"
#include "model/qwen3.h"
#include "parallel/fsdp/sharded_model.h"
#include "parallel/mesh.h"
#include "spec/run_spec.h"
#include "worker/rank/batch_source.h"
#include "worker/rank/data/dataset.h"
#include "worker/rank/expert_balance.h"
#include "worker/rank/metrics/step_metrics.h"
#include "worker/rank/optimizer.h"
#include "worker/rank/step_split.h"

namespace qwen3::rank {

struct TraceOrder {
  int64_t steps = 0;  // 0: none
  int64_t trace = 0;  // names its folder
};

// What rank 0 decides for all ranks; it rides in the step's first collective, so all act after the same step.
struct Orders {
  enum Word : int64_t { kNone = 0, kCheckpoint = 1, kStop = 2, kStopWithCheckpoint = 3 };
  Word word = kNone;
  bool skip_save = false;  // too many checkpoints wait for their commit
  TraceOrder trace;        // of steps after this one
};

// A loss or gradient norm that is not a number or infinite. Nothing of the step was applied on any rank.
class NonFiniteError : public std::runtime_error {
 public:
  NonFiniteError(int64_t step, int64_t rank, const std::string& what)
      : std::runtime_error(what), step(step), rank(rank) {}
  int64_t step;
  int64_t rank;  // where the first bad value is
};

class Trainer {
 public:
  // Collective over the mesh. The mesh must outlive the trainer. Weights are initialised from run.seed.
  Trainer(const spec::RunSpec& run, const parallel::DeviceMesh& mesh, data::Splits data);

  struct Outcome {
    StepMetrics metrics;
    Orders orders;  // rank 0's
  };
  // Collective. `mine` counts on rank 0 only. Throws NonFiniteError, c10::DistError.
  Outcome step(int64_t step, const Orders& mine);

  // Collective: mean loss over the held-out text, nats per valid token.
  double validate();

  parallel::ShardedModel& model() { return sharded_; }
  std::vector<std::string> unit_names() const;  // of the model, by number

 private:
  // Over all ranks and microbatches of the step.
  struct Totals {
    double loss = 0, auxiliary_loss = 0;
    at::Tensor expert_counts;  // [layers * E] int64
  };
  Totals totals(const std::vector<double>& losses, const std::vector<double>& auxiliary_losses) const;
  void check_finite(int64_t step, double loss, double norm, const std::vector<double>& losses) const;

  spec::RunSpec run_;
  const parallel::DeviceMesh& mesh_;
  std::shared_ptr<const data::Dataset> validation_;
  model::ParameterSet parameters_;
  model::Qwen3 model_;  // adds its parameters; then they are sharded
  parallel::ShardedModel sharded_;
  AdamW optimizer_;
  ExpertBalance experts_;
  BatchSource batches_;
  StepSplits splits_;
};

}  // namespace qwen3::rank
