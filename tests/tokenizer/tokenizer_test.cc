#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/status/status.h"
#include "tests/tokenizer/vocabulary_file.h"

namespace qwen3::tokenizer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Tokenizer, HasThePublishedSizeAndEndOfText) {
  EXPECT_EQ(qwen3().vocab_size(), 151669);
  EXPECT_EQ(qwen3().eos_id(), 151643);
}

TEST(Tokenizer, AddedTokensInTheTextBecomeTheirIds) {
  EXPECT_THAT(qwen3().encode("<|im_start|>user").value(), ElementsAre(151644, 872));
}

TEST(Tokenizer, BadUtf8IsRefusedWithItsOffset) {
  const absl::Status status = qwen3().encode("abc\xFFz").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte 0xFF at offset 3"));
}

TEST(Tokenizer, AnIdOutsideTheVocabularyIsRefusedByName) {
  const absl::Status status = qwen3().decode(std::vector<int32_t>{9707, 151669}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("token id 151669 at index 1"));
}

std::string random_text(std::size_t bytes) {
  const char* const fragments[] = {"the ", "End",        "  ",           "\n",     "\r\n",       "\n\n",
                                   "1603", "e\u0301",    "\u4e2d\u6587", ", ",     "'s ",        "Hamlet",
                                   ".",    "\U0001F600", " \n ",         "\u00a0", "<|im_end|>", "\u0301"};
  std::mt19937 random(1);
  std::string text;
  while (text.size() < bytes) text += fragments[random() % std::size(fragments)];
  return text;
}

TEST(Tokenizer, ThreadsDoNotChangeTheIds) {
  const std::string text = random_text(3 << 20);
  EXPECT_EQ(qwen3().encode(text, /*threads=*/4).value(), qwen3().encode(text).value());
  const std::vector<std::string_view> texts = {"a", text, "", "b c"};
  const auto batch = qwen3().encode_batch(texts, /*threads=*/3).value();
  ASSERT_EQ(batch.size(), 4u);
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(batch[i], qwen3().encode(texts[i]).value());
}

TEST(Tokenizer, BothSidesOfASafeCutEncodeAlone) {
  const std::string text = random_text(4000);
  int cuts = 0;
  for (std::size_t end = 1; end <= text.size(); ++end) {
    const std::string_view front = std::string_view(text).substr(0, end);
    if (end < text.size() && (text[end] & 0xC0) == 0x80) continue;  // half a character
    const std::size_t cut = qwen3().last_safe_cut(front);
    if (cut == 0) continue;
    ++cuts;
    std::vector<int32_t> parts = qwen3().encode(std::string_view(text).substr(0, cut)).value();
    const std::vector<int32_t> rest = qwen3().encode(std::string_view(text).substr(cut)).value();
    parts.insert(parts.end(), rest.begin(), rest.end());
    ASSERT_EQ(parts, qwen3().encode(text).value()) << "cut at " << cut;
  }
  EXPECT_GT(cuts, 1000);
}

TEST(Tokenizer, AnErrorInABatchNamesTheText) {
  const std::vector<std::string_view> texts = {"fine", "\xC3"};
  EXPECT_THAT(std::string(qwen3().encode_batch(texts, 2).status().message()), HasSubstr("text 1: text is not UTF-8"));
}

}  // namespace
}  // namespace qwen3::tokenizer
