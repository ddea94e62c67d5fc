// What the ranks of a run send each other, by arithmetic alone.
#pragma once
#include <cstdint>

#include "spec/run_spec.h"

namespace qwen3::spec {

// Bytes that one rank sends to others in one optimizer step, by the axis of the mesh; of the ranks it is the one that
// holds most, and experts are thought to be chosen evenly. A gather over n ranks sends what a rank has n - 1 times, an
// all-to-all all but the n-th part that stays. Not counted: the few numbers that all ranks agree on (valid tokens,
// losses, counts of experts, the norm), and what a back end adds.
struct CommunicationBytes {
  int64_t dp_shard = 0;      // weights gathered forward and backward, gradients to those who keep their shards
  int64_t dp_replicate = 0;  // gradients between replicas, once a step
  int64_t tp = 0;            // activations into and out of the cut layers, gradients of what is not cut
  int64_t ep = 0;            // tokens to their experts and back, and their gradients
  int64_t efsdp = 0;         // as dp_shard, of the experts

  int64_t total() const { return dp_shard + dp_replicate + tp + ep + efsdp; }
};

CommunicationBytes estimate_communication(const RunSpec& run);

}  // namespace qwen3::spec
