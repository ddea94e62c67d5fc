// The seams of a run: its mesh and settings say which parallelism is on, and here each takes its place in the model.
// Nothing else decides that.
#pragma once
#include "model/seams.h"
#include "parallel/fsdp/sharded_model.h"
#include "parallel/mesh.h"
#include "spec/run_spec.h"

namespace qwen3::parallel {

// Of a model whose parameters `sharded` will hold. A model is built before it can be sharded, so `sharded` may be
// constructed later: it is first used in a forward. Both references must outlive the model.
model::Seams plan_seams(const spec::RunSpec& run, const DeviceMesh& mesh, ShardedModel& sharded);

}  // namespace qwen3::parallel
