#include "spec/estimate.h"

#include <algorithm>
#include <cmath>

namespace qwen3::spec {
namespace {

int64_t bytes_of(Precision precision) {
  switch (precision) {
    case Precision::kBfloat16:
      return 2;
    case Precision::kFloat32:
      return 4;
    case Precision::kFloat64:
      return 8;
  }
  return 8;
}

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Parameters of one block, a unit of sharding.
int64_t block_parameters(const ModelShape& model) {
  const int64_t outside = model.vocab * model.dim * (model.tied ? 1 : 2) + model.dim;
  return model.layers == 0 ? 0 : (parameter_count(model) - outside) / model.layers;
}

// Partial sums of gradients a rank holds: one, or the binary counter of ordered mode over its K microbatches.
int64_t gradient_sums(const RunSpec& run) {
  if (!run.ordered) return 1;
  int64_t sums = 1;
  for (int64_t k = run.microbatches_per_rank; k > 1; k /= 2) ++sums;
  return sums;
}

}  // namespace

BytesPerRank estimate_bytes_per_rank(const RunSpec& run) {
  const ModelShape& model = run.model;
  const int64_t all = parameter_count(model);
  const int64_t shard_degree = std::max<int64_t>(1, run.mesh.degree(Axis::kDpShard));
  const int64_t shard = ceil_divide(all, shard_degree);
  const int64_t element = bytes_of(run.precision);
  const int64_t block = block_parameters(model);
  const int64_t table = model.vocab * model.dim;  // the embedding; the head is as large

  int64_t gathered = all;  // whole weights that live at once, in the compute dtype
  if (shard_degree > 1 && run.reshard_after_forward) gathered = std::max(2 * block, block + table);

  BytesPerRank bytes;
  bytes.parameters = 4 * shard + element * gathered;
  bytes.gradients = 4 * shard * gradient_sums(run) + 4 * std::max(block, table);
  bytes.moments = 8 * shard;
  const int64_t tokens = run.data.local_batch_size * run.data.seq_len;
  const int64_t hidden = model.experts > 0 ? model.experts_per_token * model.expert_hidden : model.ffn_hidden;
  const int64_t dispatched = model.experts > 0 ? 2 * model.experts_per_token * model.dim : 0;
  const int64_t per_layer = 4 * (model.dim + (model.heads + model.kv_heads) * model.head_dim + hidden) + dispatched;
  bytes.activations = element * tokens * (model.layers * per_layer + 2 * model.dim);
  return bytes;
}

double flops_per_token(const ModelShape& model, int64_t seq_len) {
  const double dim = static_cast<double>(model.dim);
  const double q_width = static_cast<double>(model.heads * model.head_dim);
  const double kv_width = static_cast<double>(model.kv_heads * model.head_dim);
  const double hidden =
      static_cast<double>(model.experts > 0 ? model.experts_per_token * model.expert_hidden : model.ffn_hidden);
  const double layers = static_cast<double>(model.layers);
  const double matmul = layers * dim * (2 * q_width + 2 * kv_width + 3 * hidden + static_cast<double>(model.experts)) +
                        static_cast<double>(model.vocab) * dim;
  return 6 * matmul + 6 * layers * q_width * static_cast<double>(seq_len);
}

int64_t checkpoint_bytes(const ModelShape& model) { return 3 * 4 * parameter_count(model); }

}  // namespace qwen3::spec
