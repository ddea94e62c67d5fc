#include "spec/layout.h"

#include <algorithm>

namespace qwen3::spec {

RowRange shard_rows(int64_t rows, int64_t degree, int64_t index) {
  const int64_t run = (rows + degree - 1) / degree;
  const int64_t begin = std::min(rows, index * run);
  return {begin, std::min(rows, begin + run)};
}

int64_t global_microbatch(int64_t replicate, int64_t shard, int64_t k, int64_t microbatches_per_rank,
                          int64_t shard_degree) {
  return replicate * (microbatches_per_rank * shard_degree) + k * shard_degree + shard;
}

}  // namespace qwen3::spec
