#include "tokenizer/split.h"

#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <random>
#include <string>

namespace qwen3::tokenizer {
namespace {

// Where PCRE2 ends the match of kSplitPattern at `offset`.
std::size_t pcre_word_end(const pcre2_code* code, std::string_view text, std::size_t offset) {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create_from_pattern(code, nullptr), &pcre2_match_data_free);
  const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), offset, PCRE2_ANCHORED,
                                 match.get(), nullptr);
  return result < 0 ? offset : pcre2_get_ovector_pointer(match.get())[1];
}

TEST(Split, WordsAreThoseOfThePatternRunByPcre2) {
  int error = 0;
  PCRE2_SIZE where = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kSplitPattern.data()), kSplitPattern.size(), PCRE2_UTF | PCRE2_UCP,
                    &error, &where, nullptr),
      &pcre2_code_free);
  ASSERT_NE(code, nullptr);
  // Few characters, so that every sequence of four or five occurs; none on which the Unicode versions differ.
  const char* const characters[] = {" ",      " ",      "\n",     "\r",     "\t", "a",      "S",      "l", "L",
                                    "e",      "'",      "'",      "r",      "v",  "d",      "1",      ".", "\u017f",
                                    "\u4e2d", "\u00a0", "\u0301", "\u2460", "!",  "\u3000", "\u00bd", "T"};
  std::mt19937 random(1);
  for (int round = 0; round < 100000; ++round) {
    std::string text;
    for (unsigned length = 1 + random() % 10; length > 0; --length)
      text += characters[random() % std::size(characters)];
    for (std::size_t offset = 0; offset < text.size();) {
      const std::size_t end = word_end(text, offset);
      ASSERT_EQ(end, pcre_word_end(code.get(), text, offset)) << testing::PrintToString(text) << " at " << offset;
      offset = end;
    }
  }
}

}  // namespace
}  // namespace qwen3::tokenizer
