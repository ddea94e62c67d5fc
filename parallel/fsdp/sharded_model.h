// Data parallelism of every kind as one thing: FSDP over the shard axis, DDP over the replicate axis, both (HSDP), or
// neither (one process). The model does not know: its parameters are filled and freed around each layer. What is
// sharded is what tensor and expert parallelism leave to this rank of a weight (spec/layout.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <vector>

#include "model/parameter.h"
#include "model/seams.h"
#include "parallel/fsdp/unit.h"
#include "parallel/mesh.h"

namespace qwen3::parallel {

class ShardedModel {
 public:
  // One FSDP unit per unit of `parameters`, and one more for its experts when they are sharded over their own mesh;
  // when the last unit uses a tensor of the first (tied weights), the two are one unit that stays gathered from the
  // first forward to the end of backward. Buffers become zeros. `mesh` must outlive this.
  ShardedModel(model::ParameterSet& parameters, const DeviceMesh& mesh, const UnitOptions& options);

  // The model's `around` seam: gathers a layer's weights before it runs and frees them after, forward and backward,
  // fetches the next layer's ahead in both directions, and reduces a layer's gradients once they are complete.
  at::Tensor around(size_t layer, const at::Tensor& x, const model::Layer& body);

  // Shards from the counter-based initialisation: bitwise the same weights on every mesh.
  void initialise(uint64_t seed);

  // Call after each microbatch's backward.
  void end_of_backward();
  // Tells that the backward about to run is the step's last: sums over it can begin while it runs.
  void set_last_microbatch(bool last) { last_microbatch_ = last; }
  // Every tensor's `grad` becomes the step's gradient.
  void finish_step();
  // After the optimizer.
  void masters_changed();

  // All tensors of this rank, in name order of the global tensors.
  const std::vector<ShardedTensor*>& tensors() const { return tensors_; }
  // The model's buffers, whole on every rank; whoever changes one changes it alike on all ranks.
  std::deque<model::Buffer>& buffers() const { return parameters_.buffers(); }
  const DeviceMesh& mesh() const { return mesh_; }

 private:
  friend struct BeforeLayer;
  friend struct AfterLayer;
  std::vector<FsdpUnit*>& units_of(size_t layer) { return units_by_layer_[layer]; }
  bool stays_gathered(size_t layer) const { return layer + 1 == units_by_layer_.size() || (tied_ && layer == 0); }
  void layer_gradients_complete(size_t layer);
  void reduce(FsdpUnit& unit);
  void gather_for_backward(size_t layer);
  void sum_over_tp();

  model::ParameterSet& parameters_;
  const DeviceMesh& mesh_;
  std::deque<FsdpUnit> units_;
  std::vector<std::vector<FsdpUnit*>> units_by_layer_;  // by unit of the ParameterSet
  std::vector<ShardedTensor*> tensors_;
  bool tied_ = false;
  bool last_microbatch_ = false;
  FsdpUnit* unsettled_ = nullptr;  // whose exchange goes on while the layer before it runs backward
};

}  // namespace qwen3::parallel
