#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <vector>

namespace qwen3::tokenizer {
namespace {

constexpr char32_t kCharacters = 0x110000;
constexpr char32_t kFirstCombining = 0x300;  // below it every character is in NFC and joins nothing

// Length of the well-formed character at the front of `text`, 0 if there is none; `bad` is then the length of the
// maximal subpart to be replaced (at least 1). Table 3-7 of the Unicode standard.
std::size_t character_length(std::string_view text, std::size_t* bad) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  *bad = 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= text.size()) return 0;
    const bool good = i == 1 ? byte(i) >= low && byte(i) <= high : byte(i) >= 0x80 && byte(i) <= 0xBF;
    if (!good) return 0;
    *bad = i + 1;
  }
  return length;
}

// Offset of the first byte from `offset` on that is not ASCII, or the size.
std::size_t skip_ascii(std::string_view text, std::size_t offset) {
  for (; offset + 8 <= text.size(); offset += 8) {
    uint64_t bytes;
    std::memcpy(&bytes, text.data() + offset, 8);
    if (bytes & 0x8080808080808080u) break;
  }
  while (offset < text.size() && static_cast<unsigned char>(text[offset]) < 0x80) ++offset;
  return offset;
}

std::size_t scan_utf8(std::string_view text, std::size_t offset, std::size_t* bad) {
  while ((offset = skip_ascii(text, offset)) < text.size()) {
    const std::size_t length = character_length(text.substr(offset, 4), bad);
    if (length == 0) break;
    offset += length;
  }
  return offset;
}

std::string nfc_of(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) throw std::bad_alloc();  // valid UTF-8 leaves no other reason
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  return std::string(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
}

std::string encode_utf8(char32_t character) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(character), bytes);
  return std::string(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

// comb_index of utf8proc 2.8: from 0x8000 on the character is the second of a composition; 0xFFFF: none.
bool joins_the_one_before(char32_t character, const utf8proc_property_t& property) {
  const bool hangul_vowel_or_tail =
      (character >= 0x1161 && character <= 0x1175) || (character >= 0x11A8 && character <= 0x11C2);
  return hangul_vowel_or_tail || (property.comb_index >= 0x8000 && property.comb_index != 0xFFFF);
}

// HF's NFC is that of Unicode 9: characters of later versions that combine or compose are plain ones to it. They stand
// as they are, and nothing moves or composes across them.
constexpr struct {
  char32_t first, last;
} kPlainToHf[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

bool plain_to_hf(char32_t character) {
  const auto after = std::upper_bound(std::begin(kPlainToHf), std::end(kPlainToHf), character,
                                      [](char32_t c, const auto& range) { return c < range.first; });
  return after != std::begin(kPlainToHf) && character <= std::prev(after)->last;
}

std::vector<bool> make_starts_table() {
  std::vector<bool> starts(kCharacters, true);
  for (char32_t c = kFirstCombining; c < kCharacters; ++c) {
    if ((c >= 0xD800 && c <= 0xDFFF) || plain_to_hf(c)) continue;
    const utf8proc_property_t& property = *utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
    if (property.combining_class != 0 || joins_the_one_before(c, property)) {
      starts[c] = false;
    } else if (property.decomp_seqindex != 0xFFFF && property.decomp_type == 0) {  // a canonical decomposition
      const std::string text = encode_utf8(c);
      starts[c] = nfc_of(text) == text;
    }
  }
  return starts;
}

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t bad = 0;
  const std::size_t offset = scan_utf8(text, 0, &bad);
  if (offset == text.size()) return std::nullopt;
  return offset;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  std::size_t offset = 0;
  while (true) {
    std::size_t bad = 0;
    const std::size_t end = scan_utf8(text, offset, &bad);
    result.append(text.substr(offset, end - offset));
    if (end == text.size()) return result;
    result.append("\xEF\xBF\xBD");
    offset = end + bad;
  }
}

char32_t next_character(std::string_view text, std::size_t& offset) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[offset + i])); };
  const char32_t lead = byte(0);
  char32_t character = lead;
  std::size_t length = 1;
  if (lead >= 0xF0) {
    character = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    length = 4;
  } else if (lead >= 0xE0) {
    character = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    length = 3;
  } else if (lead >= 0xC0) {
    character = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
    length = 2;
  }
  offset += length;
  return character;
}

bool starts_normalized(char32_t character) {
  if (character < kFirstCombining) return true;
  static const std::vector<bool> starts = make_starts_table();
  return starts[character];
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view to_nfc(std::string_view text, std::string& storage) {
  storage.clear();
  std::size_t copied = 0;   // text up to here is in storage
  std::size_t starter = 0;  // where a stretch to normalise would begin: the last character that starts_normalized()
  std::size_t offset = 0;
  while ((offset = skip_ascii(text, offset)) < text.size()) {
    if (offset > 0 && static_cast<unsigned char>(text[offset - 1]) < 0x80) starter = offset - 1;
    const std::size_t at = offset;
    const char32_t character = next_character(text, offset);
    if (starts_normalized(character)) {
      starter = plain_to_hf(character) ? offset : at;
      continue;
    }
    std::size_t end = offset;
    while (end < text.size()) {
      std::size_t next = end;
      if (starts_normalized(next_character(text, next))) break;
      end = next;
    }
    storage.append(text.substr(copied, starter - copied));
    storage.append(nfc_of(text.substr(starter, end - starter)));
    copied = starter = offset = end;
  }
  if (copied == 0) return text;
  storage.append(text.substr(copied));
  return storage;
}

}  // namespace qwen3::tokenizer
