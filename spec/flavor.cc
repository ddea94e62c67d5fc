#include "spec/flavor.h"

#include <algorithm>
#include <array>

namespace qwen3::spec {

std::span<const ModelShape> flavors() {
  static constexpr int64_t kVocab = 151936;
  // Columns: flavor, dim, layers, heads, kv_heads, head_dim, ffn_hidden, vocab, rope_theta, max_seq_len, tied,
  // experts, experts_per_token, expert_hidden; the rest by default.
  static const std::array<ModelShape, 10> table = {{
      {"debugmodel", 256, 8, 16, 8, 128, 3072, 2048, 1e6, 4096, true},
      {"0.6B", 1024, 28, 16, 8, 128, 3072, kVocab, 1e6, 40960, true},
      {"1.7B", 2048, 28, 16, 8, 128, 6144, kVocab, 1e6, 40960, true},
      {"4B", 2560, 36, 32, 8, 128, 9728, kVocab, 1e6, 40960, true},
      {"8B", 4096, 36, 32, 8, 128, 12288, kVocab, 1e6, 40960, false},
      {"14B", 5120, 40, 40, 8, 128, 17408, kVocab, 1e6, 40960, false},
      {"32B", 5120, 64, 64, 8, 128, 25600, kVocab, 1e6, 40960, false},
      {"debugmodel_moe", 256, 8, 16, 8, 128, 0, 2048, 1e6, 4096, false, 64, 8, 768},
      {"30B-A3B", 2048, 48, 32, 4, 128, 0, kVocab, 1e6, 40960, false, 128, 8, 768},
      {"235B-A22B", 4096, 94, 64, 4, 128, 0, kVocab, 5e6, 40960, false, 128, 8, 1536},
  }};
  return table;
}

const ModelShape* find_flavor(std::string_view name) {
  const auto all = flavors();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const ModelShape& shape) { return shape.flavor == name; });
  return found == all.end() ? nullptr : &*found;
}

int64_t parameter_count(const ModelShape& shape) {
  const int64_t attention = 2 * shape.dim * shape.heads * shape.head_dim       // wq, wo
                            + 2 * shape.dim * shape.kv_heads * shape.head_dim  // wk, wv
                            + 2 * shape.head_dim;                              // q_norm, k_norm
  const int64_t dense = 3 * shape.dim * shape.ffn_hidden;
  const int64_t moe = shape.experts * 3 * shape.dim * shape.expert_hidden + shape.dim * shape.experts;  // and router
  const int64_t block = attention + dense + moe + 2 * shape.dim;                                        // two norms
  const int64_t embedding = shape.vocab * shape.dim;
  return shape.layers * block + embedding * (shape.tied ? 1 : 2) + shape.dim;  // final norm
}

}  // namespace qwen3::spec
