// Data parallelism of every kind as one thing: FSDP over the shard axis, DDP over the replicate axis, both (HSDP), or
// neither (one process). The model does not know: its parameters are filled and freed around each layer. What is
// sharded is what tensor and expert parallelism leave to this rank of a weight (spec/layout.h).
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
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

  // The actions that `around` issues at a layer's edges; a schedule may issue them elsewhere.
  // Begins to gather the layer's weights; they are there after gather(), which waits, until free().
  void prefetch(size_t layer);
  void gather(size_t layer);
  void free(size_t layer);
  // Takes the gradients of the layer's weights, which must be complete, frees the weights and begins to add the
  // gradients over the ranks. What was begun for layers before goes on by one stage.
  void reduce(size_t layer);

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
  bool is_last(size_t layer) const { return layer + 1 == units_by_layer_.size(); }
  void layer_gradients_complete(size_t layer);
  void gather_for_backward(size_t layer);
  void advance_reductions(std::vector<FsdpUnit*> begun);
  void sum_over_tp();

  model::ParameterSet& parameters_;
  const DeviceMesh& mesh_;
  std::deque<FsdpUnit> units_;
  std::vector<std::vector<FsdpUnit*>> units_by_layer_;  // by unit of the ParameterSet
  std::vector<ShardedTensor*> tensors_;
  bool tied_ = false;
  bool last_microbatch_ = false;
  // By stage, the units whose gradients travel while other layers run backward: to their shards, to the replica that
  // adds them, back from it.
  std::array<std::vector<FsdpUnit*>, 3> reducing_;
};

}  // namespace qwen3::parallel
