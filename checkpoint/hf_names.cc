// Which tensor of ours is which of Hugging Face's; the table of torchtitan's Qwen3 state dict adapter.
#include <array>
#include <string_view>

#include "checkpoint/hf.h"

namespace qwen3::checkpoint {
namespace {

struct NameRow {
  std::string_view ours;
  std::string_view theirs;
};

constexpr std::string_view kEmbedding = "tok_embeddings.weight", kNorm = "norm.weight", kHead = "lm_head.weight";
constexpr NameRow kOutsideLayers[] = {
    {kEmbedding, "model.embed_tokens.weight"}, {kNorm, "model.norm.weight"}, {kHead, "lm_head.weight"}};

// In the order of the layer; shapes in layer_shape() below.
constexpr std::array<NameRow, 11> kInLayer = {{
    {"attention_norm.weight", "input_layernorm.weight"},
    {"attention.wq.weight", "self_attn.q_proj.weight"},
    {"attention.wk.weight", "self_attn.k_proj.weight"},
    {"attention.wv.weight", "self_attn.v_proj.weight"},
    {"attention.q_norm.weight", "self_attn.q_norm.weight"},
    {"attention.k_norm.weight", "self_attn.k_norm.weight"},
    {"attention.wo.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"feed_forward.w1.weight", "mlp.gate_proj.weight"},
    {"feed_forward.w3.weight", "mlp.up_proj.weight"},
    {"feed_forward.w2.weight", "mlp.down_proj.weight"},
}};

std::array<std::vector<int64_t>, kInLayer.size()> layer_shapes(const spec::ModelShape& model) {
  const int64_t q = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
  return {{{model.dim},
           {q, model.dim},
           {kv, model.dim},
           {kv, model.dim},
           {model.head_dim},
           {model.head_dim},
           {model.dim, q},
           {model.dim},
           {model.ffn_hidden, model.dim},
           {model.ffn_hidden, model.dim},
           {model.dim, model.ffn_hidden}}};
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos &&
         (text == "0" || text[0] != '0');
}

}  // namespace

std::string hf_name(const std::string& parameter) {
  for (const auto& [ours, theirs] : kOutsideLayers) {
    if (parameter == ours) return std::string(theirs);
  }
  constexpr std::string_view kPrefix = "layers.";
  const std::string_view name = parameter;
  const size_t dot = name.find('.', kPrefix.size());
  if (!name.starts_with(kPrefix) || dot == std::string_view::npos) return "";
  const std::string_view layer = name.substr(kPrefix.size(), dot - kPrefix.size());
  if (!is_number(layer)) return "";
  for (const auto& [ours, theirs] : kInLayer) {
    if (name.substr(dot + 1) == ours) return "model.layers." + std::string(layer) + "." + std::string(theirs);
  }
  return "";
}

std::vector<HfTensor> hf_tensors(const spec::ModelShape& model) {
  std::vector<HfTensor> tensors;
  const auto add = [&](const std::string& parameter, std::vector<int64_t> shape) {
    tensors.push_back({hf_name(parameter), parameter, std::move(shape)});
  };
  add(std::string(kEmbedding), {model.vocab, model.dim});
  const auto shapes = layer_shapes(model);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    for (size_t i = 0; i < kInLayer.size(); ++i) {
      add("layers." + std::to_string(layer) + "." + std::string(kInLayer[i].ours), shapes[i]);
    }
  }
  add(std::string(kNorm), {model.dim});
  if (!model.tied) add(std::string(kHead), {model.vocab, model.dim});
  return tensors;
}

}  // namespace qwen3::checkpoint
