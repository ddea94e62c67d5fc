// Qwen3's split of a text into words: no token reaches over the edge of a word.
#pragma once
#include <cstddef>
#include <string_view>

namespace qwen3::tokenizer {

// The split as Qwen3's tokenizer.json writes it.
inline constexpr std::string_view kSplitPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// End of the match of kSplitPattern that begins at `offset` < text.size(); there always is one. `text` is valid UTF-8,
// `offset` at a character. Written out by hand, linear in time, with the character classes of HF's Oniguruma (Unicode
// 16): docs/adr/0011-split-by-hand.md. A test compares it with PCRE2 running the pattern.
std::size_t word_end(std::string_view text, std::size_t offset);

}  // namespace qwen3::tokenizer
