// Microbatches of a step, as tensors. Which samples a microbatch holds depends on (seed, step, global microbatch index)
// alone.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "model/qwen3.h"
#include "spec/mesh.h"
#include "spec/run_spec.h"
#include "worker/rank/data/dataset.h"

namespace qwen3::rank {

class BatchSource {
 public:
  BatchSource(std::shared_ptr<const data::Dataset> train, const spec::RunSpec& run);

  // Microbatch m of step `step` (from 1); 0 <= m < global_batch_size / local_batch_size.
  model::Microbatch training(int64_t step, int64_t m) const;

 private:
  std::shared_ptr<const data::Dataset> train_;
  int64_t local_batch_size_;
  int64_t global_batch_size_;
  uint64_t seed_;
};

// Sequences [first, first + count) of a dataset, in order; those past its end have every label ignored.
model::Microbatch consecutive(const data::Dataset& dataset, int64_t first, int64_t count);

// The global microbatch that rank `rank` of the mesh runs as the k-th of its `per_rank`; see spec::global_microbatch.
int64_t microbatch_of(const spec::Mesh& mesh, int64_t rank, int64_t k, int64_t per_rank, bool reduce_once = false);

// Whether this rank counts what its microbatches say: of the ranks that run the same microbatches one does.
bool speaks_for_microbatches(const spec::Mesh& mesh, int64_t rank);

// by_rank [ranks, K] float64, one value a microbatch, the same on the ranks that run it: the values in the order of the
// global microbatches, which does not depend on the mesh.
std::vector<double> in_microbatch_order(const at::Tensor& by_rank, const spec::Mesh& mesh, bool reduce_once = false);

int64_t valid_tokens(const model::Microbatch& batch);

}  // namespace qwen3::rank
