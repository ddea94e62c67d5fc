#include "spec/communication.h"

#include "spec/activation_checkpoint.h"
#include "spec/units.h"

namespace qwen3::spec {
namespace {

// parallel/fsdp/: gathers of every unit and exchanges of its gradients.
void add_data_parallel(const RunSpec& run, CommunicationBytes& bytes) {
  const int64_t replicas = degree_of(run.mesh, LayoutAxis::kReplicate);
  const int64_t last_layer = run.model.layers + 1;
  for (const UnitSize& unit : unit_sizes(run)) {
    int64_t& of_axis = unit.axis == LayoutAxis::kEfsdp ? bytes.efsdp : bytes.dp_shard;
    // Blocks are gathered again for backward, but for the last, whose backward comes soon. The embedding's needs no
    // weight, and the head's begins at once.
    const bool again = unit.layer > 0 && unit.layer + 1 < last_layer;
    const int64_t gathers = run.reshard_after_forward ? (again ? 2 : 1) * run.microbatches_per_rank : 1;
    const int64_t exchanges = run.reduce_once ? 1 : run.microbatches_per_rank;
    of_axis += (unit.ranks - 1) *
               (gathers * compute_bytes(run) * unit.shard() + exchanges * travel_bytes(run) * unit.exchanged());
    const int64_t piece = (unit.exchanged() + replicas - 1) / replicas;  // one replica adds it for all
    bytes.dp_replicate += (replicas - 1) * piece * (travel_bytes(run) + state_bytes(run));
  }
}

// parallel/tensor/: what crosses its border, in forward, again where it is recomputed, and in backward. Async sends the
// same: a broadcast of every rank's piece is a gather, a gather to every rank of its piece an all-to-all.
class TensorParallel {
 public:
  explicit TensorParallel(const RunSpec& run)
      : run_(run), ranks_(degree_of(run.mesh, LayoutAxis::kTp)), element_(compute_bytes(run)), wide_(state_bytes(run)) {
    piece_ = run.data.local_batch_size * run.data.seq_len / ranks_;
  }

  int64_t of_microbatch() const {
    const ModelShape& m = run_.model;
    const int64_t tokens = piece_ * ranks_;
    const int64_t logits = run_.loss_parallel ? 3 * wide_ : (m.vocab + ranks_ - 1) / ranks_ * element_;
    int64_t bytes = leaves(m.dim * element_) + leaves_backward(m.dim * element_);  // the embedding
    bytes += enters(m.dim * element_) + enters_backward(m.dim * element_) + (ranks_ - 1) * tokens * logits;
    for (const KeptResults& kept : kept_results(run_)) bytes += of_block(kept);
    return bytes;
  }

  // Sums over the ranks of gradients of what is not cut, once a step.
  int64_t of_step() const {
    int64_t elements = 0;
    for (const UnitSize& unit : unit_sizes(run_)) {
      for (const TensorSize& tensor : unit.tensors) elements += tensor.partial_over_tp ? tensor.slot : 0;
    }
    return (ranks_ - 1) * wide_ * elements;
  }

 private:
  // Of rows of so many bytes. A value that is whole costs two crossings where its gradient is a sum, and none where it
  // is not; a piece costs one either way.
  int64_t crossing(int64_t row) const { return (ranks_ - 1) * piece_ * row; }
  int64_t enters(int64_t row) const { return run_.sequence_parallel ? crossing(row) : 0; }
  int64_t enters_backward(int64_t row) const { return run_.sequence_parallel ? crossing(row) : 2 * crossing(row); }
  int64_t leaves(int64_t row) const { return run_.sequence_parallel ? crossing(row) : 2 * crossing(row); }
  int64_t leaves_backward(int64_t row) const { return run_.sequence_parallel ? crossing(row) : 0; }

  int64_t of_block(const KeptResults& kept) const {
    const ModelShape& m = run_.model;
    const int64_t row = m.dim * element_, gates = m.experts_per_token * wide_, chosen = m.experts_per_token * 8;
    const auto runs = [&](const char* segment) -> int64_t { return kept.contains(segment) ? 1 : 2; };
    int64_t bytes = runs("qkv") * enters(row) + enters_backward(row);
    bytes += runs("attention_residual") * leaves(row) + leaves_backward(row);
    if (m.experts == 0) {
      bytes += runs("gate_up") * enters(row) + enters_backward(row);
      bytes += runs("mlp_residual") * leaves(row) + leaves_backward(row);
    } else if (run_.mesh.ep == 1) {
      bytes +=
          runs("dispatch") * (enters(row) + (run_.sequence_parallel ? crossing(chosen) : 0)) + enters_backward(row);
      bytes += runs("expert_residual") * (enters(gates) + leaves(row)) + enters_backward(gates) + leaves_backward(row);
    } else if (!run_.sequence_parallel) {  // the ranks share the tokens out among them, and join what comes of them
      bytes += crossing(row) + runs("expert_residual") * crossing(row) + crossing(gates);
    }
    return bytes;
  }

  const RunSpec& run_;
  const int64_t ranks_, element_, wide_;
  int64_t piece_;  // tokens
};

// parallel/expert/: rows there and back, forward and backward, and the counts before them.
int64_t of_experts(const RunSpec& run) {
  const ModelShape& m = run.model;
  const int64_t ep = run.mesh.ep, tp = degree_of(run.mesh, LayoutAxis::kTp);
  if (ep == 1) return 0;
  const int64_t tokens = run.data.local_batch_size * run.data.seq_len / tp;
  const int64_t leaving = tokens * m.experts_per_token * (ep - 1) / ep;
  const int64_t rows = leaving * m.dim * compute_bytes(run), counts = m.experts / ep * (ep - 1) * 8;
  int64_t bytes = 0;
  for (const KeptResults& kept : kept_results(run)) {
    bytes += (kept.contains("dispatch") ? 1 : 2) * (rows + counts) + rows;
    bytes += (kept.contains("expert_residual") ? 1 : 2) * rows + rows;
  }
  return bytes * run.microbatches_per_rank;
}

}  // namespace

CommunicationBytes estimate_communication(const RunSpec& run) {
  CommunicationBytes bytes;
  add_data_parallel(run, bytes);
  if (degree_of(run.mesh, LayoutAxis::kTp) > 1) {
    const TensorParallel tp(run);
    bytes.tp = run.microbatches_per_rank * tp.of_microbatch() + tp.of_step();
  }
  bytes.ep = of_experts(run);
  return bytes;
}

}  // namespace qwen3::spec
