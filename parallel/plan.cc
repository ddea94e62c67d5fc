#include "parallel/plan.h"

#include <utility>

#include "parallel/checkpointing/checkpointing.h"
#include "parallel/expert/expert_parallel.h"
#include "parallel/tensor/tensor_parallel.h"
#include "parallel/traced_layers.h"
#include "spec/activation_checkpoint.h"

namespace qwen3::parallel {

model::Seams plan_seams(const spec::RunSpec& run, const DeviceMesh& mesh, ShardedModel& sharded) {
  model::Seams seams = model::plain_seams();
  seams.around = [&sharded](size_t layer, const at::Tensor& x, const model::Layer& body) {
    return sharded.around(layer, x, body);
  };
  const MeshAxis& tp = mesh.axis(spec::Axis::kTp);
  if (tp.size() > 1) {
    install_tensor_parallel(seams, tp,
                            {.sequence_parallel = run.sequence_parallel,
                             .loss_parallel = run.loss_parallel,
                             .async = run.async_tensor_parallel});
  }
  if (mesh.ep().size() > 1) {
    const bool same_tokens = tp.size() > 1 && !run.sequence_parallel;
    install_expert_parallel(seams, mesh.ep(),
                            {.ordered = run.ordered, .same_tokens = same_tokens ? &tp : nullptr, .exchange = nullptr});
  }
  install_checkpointing(seams, spec::kept_results(run));
  seams.around = traced(std::move(seams.around), mesh.instruments().timeline);
  return seams;
}

}  // namespace qwen3::parallel
