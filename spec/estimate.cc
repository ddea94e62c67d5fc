#include "spec/estimate.h"

#include <algorithm>
#include <cmath>

namespace qwen3::spec {

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
