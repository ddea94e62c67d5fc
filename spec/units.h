// The units of FSDP as sizes: what of each a rank keeps, gathers and exchanges (parallel/fsdp/unit.h), from the layouts
// of its parameters.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/layout.h"
#include "spec/run_spec.h"

namespace qwen3::spec {

// Bytes of an element: of compute, of the state (weights, moments, sums of gradients), of a gradient between ranks.
int64_t compute_bytes(const RunSpec& run);
int64_t state_bytes(const RunSpec& run);
int64_t travel_bytes(const RunSpec& run);

// Elements that the flat tensors of a shard are padded to a multiple of: a cache line of float32.
inline constexpr int64_t kSlotMultiple = 16;
int64_t padded(int64_t elements);
// Of a tensor's shard on a rank: as long as the largest shard of the rank's piece, so that exchanges are even, padded.
int64_t slot_size(const Layout& layout, const Mesh& mesh, int64_t rank);

// In elements.
struct TensorSize {
  std::string name;   // "layers.3.attention.wq.weight"
  int64_t piece = 0;  // what forward reads on a rank
  int64_t slot = 0;   // slot_size
  int64_t uses = 1;   // each has a gradient of its own; of a tied weight two
  bool partial_over_tp = false;
};

// Of the rank that holds most, the first.
struct UnitSize {
  int64_t layer = 0;  // 0 the embedding, then the blocks, last norm and head
  LayoutAxis axis = LayoutAxis::kFsdp;
  int64_t ranks = 1;  // over which it is sharded
  std::vector<TensorSize> tensors;

  int64_t shard() const;      // its slots
  int64_t whole() const;      // gathered, each tensor padded
  int64_t exchanged() const;  // slots of all uses
  int64_t gradients() const;  // pieces of all uses
};

// By layer; of one layer the experts' unit last, where they have a mesh of their own. With tied weights the last layer
// has none: its parameters are in the first unit.
std::vector<UnitSize> unit_sizes(const RunSpec& run);

}  // namespace qwen3::spec
