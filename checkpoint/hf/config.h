// The JSON files of a Hugging Face folder, as text.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "spec/flavor.h"

namespace qwen3::tokenizer {
struct Vocabulary;
}

namespace qwen3::checkpoint {

// Ids that transformers wants to know; none where the model has no tokenizer.
struct SpecialIds {
  std::optional<int64_t> end_of_text;     // "<|endoftext|>": ends a document in pretraining
  std::optional<int64_t> end_of_message;  // "<|im_end|>": ends a turn of a chat
};

// From the tokenizer's added tokens; without a tokenizer, Qwen3's own ids for its full vocabulary, else none.
SpecialIds special_ids(const tokenizer::Vocabulary* vocabulary, int64_t model_vocab);

// All fields of transformers' Qwen3Config or Qwen3MoeConfig. `dtype`: "float32", "bfloat16" or "float16".
std::string config_json(const spec::ModelShape& model, const SpecialIds& ids, const std::string& dtype);

// Value of rope_scaling: "null" without YaRN.
std::string rope_scaling_json(const spec::ModelShape& model);

std::string generation_config_json(const SpecialIds& ids);

// For a tokenizer.json that comes without its tokenizer_config.json.
std::string tokenizer_config_json(const tokenizer::Vocabulary& vocabulary, const spec::ModelShape& model);

}  // namespace qwen3::checkpoint
