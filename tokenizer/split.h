// Qwen3's split of a text into words: no token reaches over the edge of a word.
#pragma once
#include <cstddef>
#include <memory>
#include <string_view>

namespace qwen3::tokenizer {

// The pattern as Qwen3's tokenizer.json writes it (Oniguruma syntax).
inline constexpr std::string_view kSplitPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The compiled pattern; shared by all threads.
class SplitPattern {
 public:
  SplitPattern();  // throws std::runtime_error if PCRE2 cannot compile it
  ~SplitPattern();
  SplitPattern(const SplitPattern&) = delete;
  SplitPattern& operator=(const SplitPattern&) = delete;
  void* code() const { return code_; }
  bool jit() const { return jit_; }  // false where memory may not be made executable; slower, same words

 private:
  void* code_;  // pcre2_code; the type is a macro of pcre2.h, kept out of this header
  bool jit_ = false;
};

// Finds word after word; one for each thread.
class Splitter {
 public:
  explicit Splitter(const SplitPattern& pattern);
  ~Splitter();
  Splitter(const Splitter&) = delete;
  Splitter& operator=(const Splitter&) = delete;
  // End of the word that begins at `offset` < text.size(). `text` is valid UTF-8, `offset` at a character.
  // Throws std::runtime_error when PCRE2 runs out of its stack.
  std::size_t word_end(std::string_view text, std::size_t offset);

 private:
  const SplitPattern& pattern_;
  void* match_;    // pcre2_match_data
  void* context_;  // pcre2_match_context
  void* stack_;    // pcre2_jit_stack
};

}  // namespace qwen3::tokenizer
