#include "parallel/plan.h"

#include "parallel/expert/expert_parallel.h"

namespace qwen3::parallel {

model::Seams plan_seams(const spec::RunSpec& run, const DeviceMesh& mesh, ShardedModel& sharded) {
  model::Seams seams = model::plain_seams();
  seams.around = [&sharded](size_t layer, const at::Tensor& x, const model::Layer& body) {
    return sharded.around(layer, x, body);
  };
  const MeshAxis& tp = mesh.axis(spec::Axis::kTp);
  if (mesh.ep().size() > 1) {
    const bool same_tokens = tp.size() > 1 && !run.sequence_parallel;
    install_expert_parallel(seams, mesh.ep(),
                            {.ordered = run.ordered, .same_tokens = same_tokens ? &tp : nullptr, .exchange = nullptr});
  }
  return seams;
}

}  // namespace qwen3::parallel
