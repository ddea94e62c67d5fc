// One unit of fully sharded data parallelism: the parameters that are gathered, freed and reduced together (the
// embedding, one block, or the final norm with the head; with tied weights embedding and head are one unit).
// Source of the idea: ZeRO-3 (arXiv:1910.02054) and PyTorch FSDP2's per-parameter sharding; here shards are runs of
// rows of what the layout leaves to this rank (spec/layout.h), so no shard splits a row.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/parameter.h"
#include "parallel/collectives.h"
#include "parallel/ordered_sum.h"
#include "spec/layout.h"

namespace qwen3::parallel {

// A weight's part on this rank. The flat tensors have `slot` elements: those of the box, row-major, then zeros up to a
// multiple of 16, so that vectorised loops have no tail whose rounding would depend on the cut.
struct ShardedTensor {
  std::string name;     // "layers.0.attention.wq.weight"
  spec::Layout layout;  // with the global shape
  spec::Box piece;      // what forward reads here: the whole weight, or what tensor and expert parallelism leave of it
  spec::Box box;        // kept here: this rank's shard of the piece
  bool owned = true;    // of the ranks of a replica that keep the same box, this one counts and writes it
  at::Tensor master;    // [slot] float32 (float64 for a float64 run)
  at::Tensor exp_avg;   // [slot], first moment
  at::Tensor exp_avg_sq;  // [slot], second moment
  at::Tensor grad;        // [slot], of the finished step; undefined during the step
  std::vector<model::Parameter*> uses;

  int64_t numel() const { return box.numel(); }
  // The valid part of one of the flat tensors, in the shape of the box.
  at::Tensor box_of(const at::Tensor& flat) const { return flat.narrow(0, 0, numel()).view(box.shape); }
};

struct UnitOptions {
  bool ordered = false;
  // Whether gradients of whole pieces are added over a step's microbatches first and exchanged once: fewer exchanges,
  // but a float32 gradient of every piece is kept. Otherwise they are exchanged after every microbatch. The order of
  // the microbatches must be the one that goes with it (spec::global_microbatch).
  bool reduce_once = false;
  bool reduce_in_bfloat16 = false;  // gradients travel so instead of in the state's dtype, in which they are added
  bool reshard_after_forward = true;
  at::ScalarType compute_dtype = at::kFloat;
  at::ScalarType state_dtype = at::kFloat;
  bool moments = true;  // false: exp_avg and exp_avg_sq stay undefined; nothing is trained
  bool sequence_parallel = true;
};

class FsdpUnit {
 public:
  // Makes the shards, uninitialised; `parameters` and the mesh outlive the unit. All are sharded over the same axis,
  // dp_shard or efsdp; the copies are along dp_replicate.
  FsdpUnit(std::vector<model::Parameter*> parameters, const DeviceMesh& mesh, const UnitOptions& options);
  FsdpUnit(const FsdpUnit&) = delete;
  FsdpUnit& operator=(const FsdpUnit&) = delete;

  // The whole weights become readable through their Parameters. start_gather sends, gather waits.
  void start_gather();
  void gather();
  // Frees the whole weights, also under live graphs: the saved views share one storage that is emptied here and filled
  // again by the next gather. Nothing to do when this rank holds whole weights anyway.
  void release();
  // After the optimizer changed the masters.
  void masters_changed();

  // Takes the leaves' gradients of one microbatch, of the step's last one if `last`, and begins to add them over the
  // shard axis. The exchange goes on in the background.
  void reduce_microbatch(bool last);
  // Waits for it and adds what came to the step's sums; after the last microbatch begins to add over the replicas: each
  // gets a part of the sums to add.
  void settle();
  // The next stage of that: the part that came here is added and begins to travel to the other replicas; called again,
  // waits for theirs. Nothing to do when there is none.
  void advance_replicas();
  // Does what of this is left to do and waits for it; then every tensor's `grad` is the step's.
  void finish_step();

  std::vector<ShardedTensor>& tensors() { return tensors_; }
  const std::vector<ShardedTensor>& tensors() const { return tensors_; }

 private:
  void accumulate();
  void start_exchange();
  void start_adding_replicas();
  at::TensorOptions travelling() const;
  bool whole_on_this_rank() const { return shard_.size() == 1; }
  // One process in fast mode adds all uses of a weight to the first one's accumulator: a tied embedding is large.
  bool shares_accumulators() const { return !options_.ordered && whole_on_this_rank() && replicate_.size() == 1; }
  OrderedSum& accumulator_of(const ShardedTensor& tensor);

  const MeshAxis& shard_;
  const MeshAxis& replicate_;
  UnitOptions options_;
  std::vector<ShardedTensor> tensors_;
  int64_t shard_numel_ = 0;   // elements of all slots
  at::Tensor master_;         // [shard_numel]: the tensors' masters are views of it
  at::Tensor compute_shard_;  // [shard_numel] in the compute dtype; master_ itself when dtypes agree
  at::Tensor whole_;          // flat whole weights whose storage comes and goes
  at::Tensor gathered_;       // [size, shard_numel], while a gather is under way
  Pending gather_;
  bool is_whole_ = false;

  struct Use {  // one gradient accumulator per use of a weight
    ShardedTensor* tensor;
    model::Parameter* parameter;
    OrderedSum sum;
  };
  std::vector<Use> uses_;
  at::Tensor received_;  // [size, elements of all uses' slots], while an exchange is under way
  Pending exchange_;
  bool last_microbatch_ = false;
  at::Tensor replicas_;  // [copies, elements / copies], while parts travel to the replica that adds them
  Pending replicate_exchange_;
  at::Tensor replica_sum_;  // [copies, elements / copies], while the added parts travel back
  Pending replicate_gather_;
};

}  // namespace qwen3::parallel
