// How a global tensor is cut over ranks: pure index arithmetic.
// A tensor is cut along dim 0 (its rows; a 1-D tensor's elements are its rows) into `degree` runs of
// ceil(rows / degree) rows; the last runs may be shorter or empty. No shard splits a row, so a sum of squares per row
// does not depend on the cut.
#pragma once
#include <cstdint>

namespace qwen3::spec {

// Half-open range of rows.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// Rows that position `index` of an axis of `degree` ranks holds. REQUIRES: 0 <= index < degree, rows >= 0.
RowRange shard_rows(int64_t rows, int64_t degree, int64_t index);

// Which microbatch of the step (global index m) a data-parallel rank runs as its k-th. The shard axis adds after every
// microbatch and the replicate axis once per step, so the ranks of either always add aligned subtrees of the binary
// tree over m: m = replicate * (K * S) + k * S + shard, with K microbatches per rank and S shard ranks.
int64_t global_microbatch(int64_t replicate, int64_t shard, int64_t k, int64_t microbatches_per_rank,
                          int64_t shard_degree);

}  // namespace qwen3::spec
