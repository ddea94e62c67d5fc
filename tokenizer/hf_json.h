// Hugging Face's tokenizer.json, as far as Qwen3 uses it.
#pragma once
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tokenizer/vocabulary.h"

namespace qwen3::tokenizer {

// Only Qwen3's pipeline is accepted (NFC, its split pattern, byte level, plain BPE); anything else is refused by name,
// as are duplicate keys, unknown tokens in merges, deep nesting and sizes beyond the limits of vocabulary.h.
absl::StatusOr<Vocabulary> parse_hf_json(std::string_view text);

// A tokenizer.json that HF's `tokenizers` loads and that gives the same ids.
std::string to_hf_json(const Vocabulary& vocabulary);

}  // namespace qwen3::tokenizer
