// What a run costs, by arithmetic alone: bytes per rank, FLOPs, bytes of a checkpoint.
#pragma once
#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::spec {

struct BytesPerRank {
  int64_t parameters = 0;   // float32 master shard and gathered compute copies
  int64_t gradients = 0;
  int64_t moments = 0;
  int64_t activations = 0;  // of one microbatch
  int64_t total() const { return parameters + gradients + moments + activations; }
};

BytesPerRank estimate_bytes_per_rank(const RunSpec& run);

// Model FLOPs of training on one token: 6 * (matmul parameters) + causal attention at half, recompute not counted.
// A tied or untied head counts once, the embedding look-up not at all.
double flops_per_token(const ModelShape& model, int64_t seq_len);

// Float32 weights and two moments.
int64_t checkpoint_bytes(const ModelShape& model);

}  // namespace qwen3::spec
