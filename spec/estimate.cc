#include "spec/estimate.h"

#include <algorithm>
#include <cmath>

#include "spec/activation_checkpoint.h"

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

int64_t activations(const RunSpec& run, int64_t element) {
  const ModelShape& model = run.model;
  const int64_t wide = std::max<int64_t>(element, 4);
  const BlockCost cost(run);
  int64_t kept = 0, in_backward = 0;
  for (const KeptResults& results : kept_results(run)) {
    in_backward = std::max(in_backward, kept + cost.backward_bytes(results));
    kept += cost.kept_bytes(results);
  }
  const int64_t tokens = run.data.local_batch_size * run.data.seq_len;
  // A chunk's logits, in the wide dtype too where that is another, and their logarithms; the normed rows and the
  // gradient of them all.
  const int64_t logit = element + (wide == element ? 0 : wide) + wide;
  const int64_t in_loss =
      kept + std::min(tokens, head_chunk_tokens(model.vocab)) * model.vocab * logit + tokens * 2 * model.dim * element;
  // The last block's output, and the rotation's angles.
  return tokens * (model.dim * element + model.head_dim * wide) + std::max(in_loss, in_backward);
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
  bytes.activations = activations(run, element);
  return bytes;
}

int64_t head_chunk_tokens(int64_t vocab) {
  constexpr int64_t kLogits = 64 << 20;  // in one chunk; GEMMs of fewer than 256 rows lose speed
  return std::clamp<int64_t>(kLogits / vocab / 256 * 256, 256, 4096);
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
