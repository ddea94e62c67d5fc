#include "spec/parameters.h"

namespace qwen3::spec {

std::vector<ParameterShape> block_parameters(const ModelShape& model) {
  const int64_t dim = model.dim, q = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
  std::vector<ParameterShape> list = {
      {"attention_norm.weight", {dim}},
      {"attention.wq.weight", {q, dim}},
      {"attention.wk.weight", {kv, dim}},
      {"attention.wv.weight", {kv, dim}},
      {"attention.q_norm.weight", {model.head_dim}},
      {"attention.k_norm.weight", {model.head_dim}},
      {"attention.wo.weight", {dim, q}},
      {"ffn_norm.weight", {dim}},
  };
  const auto add = [&](const char* name, std::vector<int64_t> shape) { list.push_back({name, std::move(shape)}); };
  if (model.experts == 0) {
    add("feed_forward.w1.weight", {model.ffn_hidden, dim});
    add("feed_forward.w3.weight", {model.ffn_hidden, dim});
    add("feed_forward.w2.weight", {dim, model.ffn_hidden});
  } else {
    add("moe.router.gate.weight", {model.experts, dim});
    add("moe.experts.w1", {model.experts, model.expert_hidden, dim});
    add("moe.experts.w3", {model.experts, model.expert_hidden, dim});
    add("moe.experts.w2", {model.experts, dim, model.expert_hidden});
  }
  return list;
}

std::vector<ParameterShape> parameters(const ModelShape& model) {
  std::vector<ParameterShape> list = {{"tok_embeddings.weight", {model.vocab, model.dim}, 0}};
  const std::vector<ParameterShape> block = block_parameters(model);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    for (const ParameterShape& parameter : block) {
      list.push_back({"layers." + std::to_string(layer) + "." + parameter.name, parameter.shape, layer + 1});
    }
  }
  list.push_back({"norm.weight", {model.dim}, model.layers + 1});
  if (!model.tied) list.push_back({"lm_head.weight", {model.vocab, model.dim}, model.layers + 1});
  return list;
}

}  // namespace qwen3::spec
