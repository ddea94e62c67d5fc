#include "checkpoint/hf/config.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "tokenizer/vocabulary.h"

namespace qwen3::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kQwen3Vocab = 151936;
constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr std::string_view kEndOfMessage = "<|im_end|>";

Json or_null(const std::optional<int64_t>& value) { return value.has_value() ? Json(*value) : Json(nullptr); }

std::optional<int64_t> id_of(const tokenizer::Vocabulary& vocabulary, std::string_view content) {
  for (const tokenizer::AddedToken& token : vocabulary.added) {
    if (token.content == content) return token.id;
  }
  return std::nullopt;
}

std::string text(const Json& json) { return json.dump(2) + "\n"; }

}  // namespace

SpecialIds special_ids(const tokenizer::Vocabulary* vocabulary, int64_t model_vocab) {
  if (vocabulary != nullptr) return {id_of(*vocabulary, kEndOfText), id_of(*vocabulary, kEndOfMessage)};
  if (model_vocab == kQwen3Vocab) return {151643, 151645};
  return {};
}

std::string rope_scaling_json(const spec::ModelShape& model) {
  if (!model.yarn) return "null";
  const spec::Yarn& yarn = *model.yarn;
  Json json = {{"rope_type", "yarn"},
               {"factor", yarn.factor},
               {"original_max_position_embeddings", yarn.original_max_position},
               {"beta_fast", yarn.beta_fast},
               {"beta_slow", yarn.beta_slow}};
  if (yarn.attention_factor) json["attention_factor"] = *yarn.attention_factor;
  return json.dump();
}

std::string config_json(const spec::ModelShape& model, const SpecialIds& ids, const std::string& dtype) {
  const bool moe = model.experts > 0;
  Json config = {{"architectures", {moe ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM"}},
                 {"attention_bias", false},
                 {"attention_dropout", 0.0},
                 {"bos_token_id", or_null(ids.end_of_text)},
                 {"eos_token_id", or_null(ids.end_of_message)},
                 {"head_dim", model.head_dim},
                 {"hidden_act", "silu"},
                 {"hidden_size", model.dim},
                 {"initializer_range", 0.02},
                 {"intermediate_size", moe ? model.experts_per_token * model.expert_hidden : model.ffn_hidden},
                 {"max_position_embeddings", model.max_seq_len},
                 {"max_window_layers", model.layers},
                 {"model_type", moe ? "qwen3_moe" : "qwen3"},
                 {"num_attention_heads", model.heads},
                 {"num_hidden_layers", model.layers},
                 {"num_key_value_heads", model.kv_heads},
                 {"rms_norm_eps", model.norm_eps},
                 {"rope_scaling", Json::parse(rope_scaling_json(model))},
                 {"rope_theta", model.rope_theta},
                 {"sliding_window", nullptr},
                 {"tie_word_embeddings", model.tied},
                 {"torch_dtype", dtype},
                 {"use_cache", true},
                 {"use_sliding_window", false},
                 {"vocab_size", model.vocab}};
  if (moe) {
    config.update(Json{{"decoder_sparse_step", 1},
                       {"mlp_only_layers", Json::array()},
                       {"moe_intermediate_size", model.expert_hidden},
                       {"norm_topk_prob", model.norm_topk_prob},
                       {"num_experts", model.experts},
                       {"num_experts_per_tok", model.experts_per_token},
                       {"output_router_logits", false},
                       {"router_aux_loss_coef", 0.001}});
  }
  return text(config);
}

std::string generation_config_json(const SpecialIds& ids) {
  Json ends = Json::array();  // a base model ends with either
  for (const auto& id : {ids.end_of_message, ids.end_of_text}) {
    if (id.has_value()) ends.push_back(*id);
  }
  return text({{"bos_token_id", or_null(ids.end_of_text)},
               {"eos_token_id", ends.empty() ? Json(nullptr) : ends},
               {"pad_token_id", or_null(ids.end_of_text)}});
}

std::string tokenizer_config_json(const tokenizer::Vocabulary& vocabulary, const spec::ModelShape& model) {
  Json added = Json::object();
  for (const tokenizer::AddedToken& token : vocabulary.added) {
    added[std::to_string(token.id)] = {{"content", token.content}, {"lstrip", false},      {"normalized", false},
                                       {"rstrip", false},          {"single_word", false}, {"special", token.special}};
  }
  const auto name = [&](std::string_view content) {
    return id_of(vocabulary, content).has_value() ? Json(content) : Json(nullptr);
  };
  return text({{"add_bos_token", false},
               {"add_prefix_space", false},
               {"added_tokens_decoder", added},
               {"bos_token", nullptr},
               {"clean_up_tokenization_spaces", false},
               {"eos_token", name(kEndOfMessage)},
               {"errors", "replace"},
               {"model_max_length", model.max_seq_len},
               {"pad_token", name(kEndOfText)},
               {"split_special_tokens", false},
               {"tokenizer_class", "Qwen2Tokenizer"},
               {"unk_token", nullptr}});
}

}  // namespace qwen3::checkpoint
