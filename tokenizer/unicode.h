// UTF-8 validity and Unicode normalisation form C.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qwen3::tokenizer {

// Offset of the first byte that is not part of a well-formed character (no surrogates, nothing over-long); none if
// the text is UTF-8.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

// The text with each ill-formed piece replaced by U+FFFD (one for each maximal subpart, as Unicode recommends).
std::string replace_invalid_utf8(std::string_view text);

// The character at `offset` of valid UTF-8; `offset` moves behind it.
char32_t next_character(std::string_view text, std::size_t& offset);

// Whether the character normalises to itself and never changes or joins what stands before it: a text may be cut in
// front of it, and the parts normalised apart.
bool starts_normalized(char32_t character);

// Unicode White_Space.
bool is_white_space(char32_t character);

// NFC of valid UTF-8. Returns `text` itself if it is in that form already, else a view of `storage`.
std::string_view to_nfc(std::string_view text, std::string& storage);

}  // namespace qwen3::tokenizer
