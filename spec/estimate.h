// What a run costs, by arithmetic alone: bytes per rank, FLOPs, bytes of a checkpoint.
#pragma once
#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::spec {

// N parameters, S ranks on the shard axis, `element` bytes of the compute dtype. A unit is the embedding, a block or
// the head. Not counted: the loss's chunk of logits, collectives' buffers, the process itself.
struct BytesPerRank {
  // Float32 master shard, 4 N / S, and whole weights in the compute dtype: all N when S is 1 or weights stay after
  // forward, else the largest two units that live at once (the one in use and the one prefetched).
  int64_t parameters = 0;
  // Float32: the sharded sum, 4 N / S (in ordered mode log2(K) + 1 of them), and one whole unit before its reduction.
  int64_t gradients = 0;
  int64_t moments = 0;  // two float32 shards, 8 N / S
  // What one microbatch keeps for backward without recomputation, per token: in each layer both norms' inputs and
  // outputs (4 D), the projections, norms, rotations and the attention's own (4 (H + K) E) and four of the MLP's width
  // (4 F); around the layers 2 D. Of a mixture of experts, with k experts a token, F is k times an expert's, and each
  // layer also keeps its rows in the experts' order and their outputs (2 k D).
  int64_t activations = 0;
  int64_t total() const { return parameters + gradients + moments + activations; }
};

BytesPerRank estimate_bytes_per_rank(const RunSpec& run);

// Model FLOPs of training on one token: 6 * (matmul parameters) + causal attention at half (6 L H E S), recompute not
// counted. A tied or untied head counts once, the embedding look-up not at all; of the experts only the active ones.
double flops_per_token(const ModelShape& model, int64_t seq_len);

// Float32 weights and two moments.
int64_t checkpoint_bytes(const ModelShape& model);

}  // namespace qwen3::spec
