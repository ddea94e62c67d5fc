#include "tokenizer/split.h"

#include <utf8proc.h>

#include <array>
#include <cstdint>
#include <vector>

#include "tokenizer/unicode.h"

namespace qwen3::tokenizer {
namespace {

enum Class : uint8_t { kOther, kLetter, kNumber, kSpace };  // \p{L}, \p{N}, \s

constexpr char32_t kCharacters = 0x110000;
constexpr char32_t kLongS = 0x17F;  // the small letter long s is an "s" where case does not matter

struct Range {
  char32_t first, last;
};
// What Unicode 15, 15.1 and 16 made letters and numbers; utf8proc 2.8 knows those of 15 only.
constexpr Range kNewLetters[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3}, {0x10D4A, 0x10D65},
    {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x1123F, 0x11240}, {0x11380, 0x11389}, {0x1138B, 0x1138B},
    {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7}, {0x113D1, 0x113D1}, {0x113D3, 0x113D3},
    {0x11BC0, 0x11BE0}, {0x11F02, 0x11F02}, {0x11F04, 0x11F10}, {0x11F12, 0x11F33}, {0x1342F, 0x1342F},
    {0x13441, 0x13446}, {0x13460, 0x143FA}, {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF},
    {0x1B132, 0x1B132}, {0x1B155, 0x1B155}, {0x1DF25, 0x1DF2A}, {0x1E030, 0x1E06D}, {0x1E4D0, 0x1E4EB},
    {0x1E5D0, 0x1E5ED}, {0x1E5F0, 0x1E5F0}, {0x2B739, 0x2B739}, {0x2EBF0, 0x2EE5D}, {0x31350, 0x323AF},
};
constexpr Range kNewNumbers[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x11F50, 0x11F59}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1D2C0, 0x1D2D3}, {0x1E4F0, 0x1E4F9}, {0x1E5F1, 0x1E5FA},
};

Class class_by_category(char32_t c) {
  if (is_white_space(c)) return kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    default:
      return kOther;
  }
}

std::vector<Class> make_classes() {
  std::vector<Class> classes(kCharacters);
  for (char32_t c = 0; c < kCharacters; ++c) classes[c] = class_by_category(c);
  for (const Range& range : kNewLetters) {
    for (char32_t c = range.first; c <= range.last; ++c) classes[c] = kLetter;
  }
  for (const Range& range : kNewNumbers) {
    for (char32_t c = range.first; c <= range.last; ++c) classes[c] = kNumber;
  }
  return classes;
}

Class class_of(char32_t c) {
  static const std::vector<Class> classes = make_classes();
  return classes[c];
}

constexpr std::array<Class, 128> make_ascii_classes() {
  std::array<Class, 128> classes{};
  for (int c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    classes[c] = letter ? kLetter : c >= '0' && c <= '9' ? kNumber : space ? kSpace : kOther;
  }
  return classes;
}
constexpr std::array<Class, 128> kAsciiClasses = make_ascii_classes();

// Class of the character at `offset` < text.size(); `offset` moves behind it.
Class next_class(std::string_view text, std::size_t& offset) {
  const auto lead = static_cast<unsigned char>(text[offset]);
  if (lead >= 0x80) return class_of(next_character(text, offset));
  ++offset;
  return kAsciiClasses[lead];
}

// End of the run of characters of one class from `offset` on.
std::size_t run_end(std::string_view text, std::size_t offset, Class wanted) {
  while (offset < text.size()) {
    std::size_t next = offset;
    if (next_class(text, next) != wanted) break;
    offset = next;
  }
  return offset;
}

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

// (?i:'s|'t|'re|'ve|'m|'ll|'d) at the apostrophe `offset`; `offset` itself if there is none.
std::size_t contraction_end(std::string_view text, std::size_t offset) {
  const std::string_view rest = text.substr(offset + 1, 2);
  if (rest.empty()) return offset;
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
  const char first = lower(rest[0]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return offset + 2;
  if (rest.size() < 2) return offset;
  const char second = lower(rest[1]);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) {
    return offset + 3;
  }
  std::size_t next = offset + 1;
  return static_cast<unsigned char>(first) >= 0x80 && next_character(text, next) == kLongS ? next : offset;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at the space `offset`.
std::size_t space_end(std::string_view text, std::size_t offset) {
  std::size_t line_end = offset;  // behind the last line end of the run
  std::size_t last = offset;      // the run's last character
  std::size_t end = offset;
  while (end < text.size()) {
    std::size_t next = end;
    if (next_class(text, next) != kSpace) break;
    if (is_line_end(text[end])) line_end = next;
    last = end;
    end = next;
  }
  if (line_end > offset) return line_end;
  return end == text.size() || last == offset ? end : last;  // the last space belongs to the word behind it
}

}  // namespace

std::size_t word_end(std::string_view text, std::size_t offset) {
  const char first = text[offset];
  if (first == '\'') {
    if (const std::size_t end = contraction_end(text, offset); end > offset) return end;
  }
  std::size_t second = offset;
  const Class first_class = next_class(text, second);
  if (first_class == kLetter) return run_end(text, second, kLetter);
  if (first_class == kNumber) return second;

  std::size_t third = second;
  const bool alone = second == text.size();
  const Class second_class = alone ? kSpace : next_class(text, third);
  if (second_class == kLetter && !is_line_end(first)) return run_end(text, third, kLetter);  // [^\r\n]?\p{L}+
  if (first_class == kOther || (first == ' ' && second_class == kOther)) {  // " ?" and what is none of the classes
    std::size_t end = run_end(text, second, kOther);
    while (end < text.size() && is_line_end(text[end])) ++end;
    return end;
  }
  return space_end(text, offset);
}

}  // namespace qwen3::tokenizer
