// What a run costs, by arithmetic alone: bytes per rank, FLOPs, bytes of a checkpoint.
#pragma once
#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::spec {

// What a rank holds at the fullest moment of a step, by kind, in bytes. Of the ranks it is the one that holds most;
// experts are thought to be chosen evenly, and documents to be packed. Not counted: buffers of a collective's back end,
// the process itself.
struct BytesPerRank {
  // This rank's shards in the state's dtype and, where compute has another, in that as well; the whole weights (or what
  // tensor and expert parallelism leave of them) that are gathered, and those that are being gathered.
  int64_t parameters = 0;
  // The step's sums so far: of ordered mode several of each. Of the unit whose backward is under way the leaves'
  // gradients, and what is exchanged of the unit before.
  int64_t gradients = 0;
  int64_t moments = 0;  // two shards in the state's dtype
  // Of one microbatch: what the blocks keep for backward, as run.activation_checkpoint says
  // (spec/activation_checkpoint.h), and what the moment itself needs: a chunk of logits, or what is run again and the
  // gradients of activations.
  int64_t activations = 0;
  // Beside all that, on the host, while a checkpoint is written: a copy of the shard in the state's dtype and of its
  // moments.
  int64_t checkpoint_copy = 0;

  int64_t peak() const { return parameters + gradients + moments + activations; }
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
