// The Qwen3 family: every published size and two debug sizes, as one table.
// Source of the figures: the config.json files of the Hugging Face releases; the debug sizes are torchtitan's
// (torchtitan/models/qwen3/__init__.py).
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace qwen3::spec {

// YaRN's stretching of the rotary embedding (Peng et al. 2023, arXiv:2309.00071), with the meaning and the names that
// Hugging Face's rope_scaling gives it.
struct Yarn {
  double factor = 1;
  int64_t original_max_position = 0;  // longest sequence before stretching
  double beta_fast = 32, beta_slow = 1;
  std::optional<double> attention_factor;  // of cos and sin; absent: 0.1 ln(factor) + 1
};

// Sizes of one model. head_dim is never dim / heads. RMSNorm eps is 1e-6 everywhere, there is no bias anywhere.
struct ModelShape {
  std::string flavor;
  int64_t dim = 0;  // D
  int64_t layers = 0;
  int64_t heads = 0;       // H
  int64_t kv_heads = 0;    // K
  int64_t head_dim = 128;  // E
  int64_t ffn_hidden = 0;  // of the dense MLP; 0 for MoE flavors
  int64_t vocab = 0;       // V
  double rope_theta = 1e6;
  int64_t max_seq_len = 0;  // longest sequence the rotary embedding is meant for
  bool tied = false;        // the head shares the embedding's weight
  int64_t experts = 0;      // 0: dense
  int64_t experts_per_token = 0;
  int64_t expert_hidden = 0;
  double norm_eps = 1e-6;
  bool norm_topk_prob = true;  // the gates of a token's experts are divided by their sum
  std::optional<Yarn> yarn;    // absent: rotary frequencies as they are
};

// All flavors, in order of size: debugmodel, 0.6B, ..., debugmodel_moe, 30B-A3B, 235B-A22B.
std::span<const ModelShape> flavors();

// Null if there is no such flavor.
const ModelShape* find_flavor(std::string_view name);

// Number of parameters; a tied weight counts once.
int64_t parameter_count(const ModelShape& shape);

}  // namespace qwen3::spec
