// What a run costs, by arithmetic alone: bytes per rank, FLOPs, bytes of a checkpoint.
#pragma once
#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::spec {

// N parameters, S ranks on the shard axis, `element` bytes of the compute dtype. A unit is the embedding, a block or
// the head. Not counted: collectives' buffers, the mask of packed documents, the process itself.
struct BytesPerRank {
  // Float32 master shard, 4 N / S, and whole weights in the compute dtype: all N when S is 1 or weights stay after
  // forward, else the largest two units that live at once (the one in use and the one prefetched).
  int64_t parameters = 0;
  // Float32: the sharded sum, 4 N / S (in ordered mode log2(K) + 1 of them), and one whole unit before its reduction.
  int64_t gradients = 0;
  int64_t moments = 0;  // two float32 shards, 8 N / S
  // Of one microbatch, at the fuller of two moments. In the loss: what all blocks keep for backward, as
  // run.activation_checkpoint says (spec/activation_checkpoint.h), and the head's chunk of logits with their
  // logarithms. Or in a block's backward: what the blocks before it keep, what is run again, and the gradients of its
  // activations.
  int64_t activations = 0;
  int64_t total() const { return parameters + gradients + moments + activations; }
};

BytesPerRank estimate_bytes_per_rank(const RunSpec& run);

// Tokens that a chunk of the head takes (model/loss.h). A function of the vocabulary alone, so that how the GEMMs are
// cut never depends on the mesh.
int64_t head_chunk_tokens(int64_t vocab);

// Model FLOPs of training on one token: 6 * (matmul parameters) + causal attention at half (6 L H E S), recompute not
// counted. A tied or untied head counts once, the embedding look-up not at all; of the experts only the active ones.
double flops_per_token(const ModelShape& model, int64_t seq_len);

// Float32 weights and two moments.
int64_t checkpoint_bytes(const ModelShape& model);

}  // namespace qwen3::spec
