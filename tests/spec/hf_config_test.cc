// config.json of Hugging Face folders: published ones are the flavors, and whatever cannot be computed is refused.
#include "spec/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

namespace qwen3::spec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// As Qwen/Qwen3-0.6B and Qwen/Qwen3-30B-A3B have it.
Json dense() {
  return Json::parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
    "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
    "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
    "vocab_size": 151936})");
}
Json moe() {
  return Json::parse(R"({
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "decoder_sparse_step": 1, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960,
    "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768,
    "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": false, "rms_norm_eps": 1e-06,
    "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": null,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 151936})");
}

ModelShape parsed(const Json& config) {
  const auto shape = parse_hf_config(config.dump());
  EXPECT_TRUE(shape.ok()) << shape.status();
  return shape.ok() ? *shape : ModelShape{};
}

void expect_flavor(const ModelShape& shape, const char* name) {
  const ModelShape& flavor = *find_flavor(name);
  EXPECT_EQ(shape.flavor, name);
  EXPECT_EQ(parameter_count(shape), parameter_count(flavor));
  EXPECT_EQ(shape.head_dim, flavor.head_dim);
  EXPECT_EQ(shape.kv_heads, flavor.kv_heads);
  EXPECT_EQ(shape.rope_theta, flavor.rope_theta);
  EXPECT_EQ(shape.max_seq_len, flavor.max_seq_len);
  EXPECT_EQ(shape.tied, flavor.tied);
  EXPECT_EQ(shape.norm_topk_prob, flavor.norm_topk_prob);
  EXPECT_EQ(shape.norm_eps, flavor.norm_eps);
  EXPECT_FALSE(shape.yarn.has_value());
}

TEST(HfConfig, PublishedConfigsAreTheFlavors) {
  expect_flavor(parsed(dense()), "0.6B");
  expect_flavor(parsed(moe()), "30B-A3B");
}

TEST(HfConfig, ALaterReleaseKeepsItsOwnContextAndTheta) {
  Json config = moe();
  config["rope_theta"] = 10000000;
  config["max_position_embeddings"] = 262144;
  const ModelShape shape = parsed(config);
  EXPECT_EQ(shape.flavor, "30B-A3B");
  EXPECT_EQ(shape.rope_theta, 1e7);
  EXPECT_EQ(shape.max_seq_len, 262144);
}

TEST(HfConfig, WhatIsLeftOutHasTheClassDefaultOfTransformers) {
  Json config = dense();
  for (const char* key : {"head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "tie_word_embeddings",
                          "rope_scaling", "hidden_act", "attention_bias"}) {
    config.erase(key);
  }
  const ModelShape shape = parsed(config);
  EXPECT_EQ(shape.head_dim, 128);  // not 1024 / 16
  EXPECT_EQ(shape.max_seq_len, 32768);
  EXPECT_EQ(shape.norm_eps, 1e-6);
  EXPECT_EQ(shape.rope_theta, 10000);
  EXPECT_FALSE(shape.tied);

  config = moe();
  config.erase("norm_topk_prob");
  config.erase("head_dim");
  EXPECT_FALSE(parsed(config).norm_topk_prob);
  EXPECT_EQ(parsed(config).head_dim, 64);  // Qwen3MoeConfig has none: 2048 / 32
}

TEST(HfConfig, YarnIsReadInBothSpellings) {
  Json config = dense();
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  config["max_position_embeddings"] = 131072;
  const ModelShape old_spelling = parsed(config);
  config.erase("rope_scaling");
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "yarn"},
                               {"rope_theta", 1e6},
                               {"factor", 4},
                               {"beta_fast", 48},
                               {"original_max_position_embeddings", 32768},
                               {"attention_factor", 1.5}};
  const ModelShape new_spelling = parsed(config);
  for (const ModelShape& shape : {old_spelling, new_spelling}) {
    ASSERT_TRUE(shape.yarn.has_value());
    EXPECT_EQ(shape.rope_theta, 1e6);
    EXPECT_EQ(shape.yarn->factor, 4);
    EXPECT_EQ(shape.yarn->original_max_position, 32768);
    EXPECT_EQ(shape.yarn->beta_slow, 1);
  }
  EXPECT_EQ(old_spelling.yarn->beta_fast, 32);
  EXPECT_FALSE(old_spelling.yarn->attention_factor.has_value());
  EXPECT_EQ(new_spelling.yarn->beta_fast, 48);
  EXPECT_EQ(new_spelling.yarn->attention_factor, 1.5);

  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e6}};
  EXPECT_FALSE(parsed(config).yarn.has_value());
  EXPECT_EQ(parsed(config).rope_theta, 5e6);
}

struct Refused {
  const char* what;
  std::function<void(Json&)> change;
  const char* complaint;
};

TEST(HfConfig, WhatCannotBeComputedIsRefusedWithKeyAndValue) {
  const Refused cases[] = {
      {"another model", [](Json& c) { c["model_type"] = "llama"; },
       "model_type is \"llama\"; supported are \"qwen3\" and \"qwen3_moe\""},
      {"no model_type", [](Json& c) { c.erase("model_type"); }, "model_type is missing"},
      {"model_type of another kind", [](Json& c) { c["model_type"] = 3; }, "model_type is 3"},
      {"a classifier", [](Json& c) { c["architectures"] = {"Qwen3ForSequenceClassification"}; },
       "architectures is [\"Qwen3ForSequenceClassification\"]; supported with model_type \"qwen3_moe\""},
      {"biases", [](Json& c) { c["attention_bias"] = true; }, "attention_bias is true; supported is false"},
      {"sliding window", [](Json& c) { c["use_sliding_window"] = true; }, "use_sliding_window is true"},
      {"layer types",
       [](Json& c) {
         c["layer_types"] = {"full_attention", "sliding_attention"};
       },
       "layer_types holds \"sliding_attention\""},
      {"dense layers between", [](Json& c) { c["decoder_sparse_step"] = 2; },
       "decoder_sparse_step is 2; supported is 1"},
      {"dense layers",
       [](Json& c) {
         c["mlp_only_layers"] = {0, 1};
       },
       "mlp_only_layers is [0,1]"},
      {"another activation", [](Json& c) { c["hidden_act"] = "gelu"; },
       "hidden_act is \"gelu\"; supported is \"silu\""},
      {"quantised",
       [](Json& c) {
         c["quantization_config"] = {{"quant_method", "fp8"}};
       },
       "quantization_config is {\"quant_method\":\"fp8\"}"},
      {"another rope",
       [](Json& c) {
         c["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8}};
       },
       "rope_scaling.rope_type is \"llama3\"; supported are \"default\" and \"yarn\""},
      {"yarn without factor",
       [](Json& c) {
         c["rope_scaling"] = {{"type", "yarn"}};
       },
       "rope_scaling.factor is missing"},
      {"yarn that shrinks",
       [](Json& c) {
         c["rope_scaling"] = {{"type", "yarn"}, {"factor", 0.5}};
       },
       "rope_scaling.factor is 0.5; it must be a number from 1"},
      {"yarn untruncated",
       [](Json& c) {
         c["rope_scaling"] = {{"type", "yarn"}, {"factor", 2}, {"truncate", false}};
       },
       "rope_scaling.truncate is false"},
      {"rope as text", [](Json& c) { c["rope_scaling"] = "yarn"; }, "rope_scaling is \"yarn\"; it must be an object"},
      {"two thetas",
       [](Json& c) {
         c["rope_parameters"] = {{"rope_theta", 5.0}};
       },
       "rope_theta is 1e+06, but rope_parameters.rope_theta is 5"},
      {"part of a head turns", [](Json& c) { c["partial_rotary_factor"] = 0.5; }, "partial_rotary_factor is 0.5"},
      {"a missing size", [](Json& c) { c.erase("num_hidden_layers"); }, "num_hidden_layers is missing"},
      {"a negative size", [](Json& c) { c["hidden_size"] = -1; },
       "hidden_size is -1; it must be a whole number from 1"},
      {"zero", [](Json& c) { c["vocab_size"] = 0; }, "vocab_size is 0"},
      {"a fraction", [](Json& c) { c["num_attention_heads"] = 32.5; }, "num_attention_heads is 32.5"},
      {"a size as text", [](Json& c) { c["num_experts"] = "128"; }, "num_experts is \"128\""},
      {"over 63 bits", [](Json& c) { c["hidden_size"] = 18446744073709551615ULL; },
       "hidden_size is 18446744073709551615"},
      {"a huge size", [](Json& c) { c["moe_intermediate_size"] = int64_t{1} << 60; }, "moe_intermediate_size is 115"},
      {"too many experts in all", [](Json& c) { c["num_experts"] = 1024, c["num_hidden_layers"] = 1024; },
       "num_experts is 1024 in 1024 layers"},
      {"heads that do not divide", [](Json& c) { c["num_key_value_heads"] = 5; },
       "num_attention_heads is 32; it must be a multiple of num_key_value_heads, 5"},
      {"an odd head", [](Json& c) { c["head_dim"] = 127; }, "head_dim is 127; it must be even"},
      {"more experts per token than experts", [](Json& c) { c["num_experts_per_tok"] = 129; },
       "num_experts_per_tok is 129, but num_experts is 128"},
      {"a flag as number", [](Json& c) { c["norm_topk_prob"] = 1; }, "norm_topk_prob is 1; it must be true or false"},
      {"eps", [](Json& c) { c["rms_norm_eps"] = -1e-6; }, "rms_norm_eps is -1e-06"},
  };
  for (const Refused& refused : cases) {
    SCOPED_TRACE(refused.what);
    Json config = moe();
    refused.change(config);
    const auto shape = parse_hf_config(config.dump());
    EXPECT_TRUE(absl::IsInvalidArgument(shape.status()));
    EXPECT_THAT(std::string(shape.status().message()), HasSubstr(refused.complaint));
    EXPECT_THAT(std::string(shape.status().message()), ::testing::Not(HasSubstr("\n"))) << "one mistake, one line";
  }
}

TEST(HfConfig, AllMistakesAreReportedAtOnce) {
  Json config = dense();
  config["attention_bias"] = true;
  config["hidden_size"] = 0;
  config.erase("vocab_size");
  EXPECT_THAT(std::string(parse_hf_config(config.dump()).status().message()),
              AllOf(HasSubstr("attention_bias is true"), HasSubstr("\nhidden_size is 0"),
                    HasSubstr("\nvocab_size is missing")));
}

TEST(HfConfig, TextThatIsNoConfigIsRefused) {
  const auto message = [](const std::string& text) { return std::string(parse_hf_config(text).status().message()); };
  EXPECT_THAT(message(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(message("[1]"), HasSubstr("is no JSON object"));
  EXPECT_THAT(message(R"({"hidden_size": 1, "hidden_size": 2})"), HasSubstr("key \"hidden_size\" is there twice"));
  EXPECT_THAT(message(R"({"rms_norm_eps": 1e999})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(message(std::string(60'000, '[')), HasSubstr("nested deeper than 8"));
  EXPECT_THAT(message(std::string(kMaxHfConfigBytes + 1, ' ')), HasSubstr("want at most 65536"));
  EXPECT_THAT(message("{\"model_type\": \"\xff\"}"), HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace qwen3::spec
