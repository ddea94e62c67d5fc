// GPT-2's alphabet, in which tokenizer.json writes bytes: printable Latin-1 characters stand for themselves, the other
// bytes, in order, for U+0100, U+0101, ...
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace qwen3::tokenizer {

std::string to_byte_alphabet(std::string_view bytes);

// None if `text` (valid UTF-8) has a character outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace qwen3::tokenizer
